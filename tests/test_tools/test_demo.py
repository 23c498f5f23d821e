"""The demo and the tools that look at its run, from the shell."""
import base64
import io
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / 'tools/analysis_tools'
CONFIG = ROOT / 'configs/demo/mixedae_vit-tiny_demo.py'
HOOKS = [hook.type for hook in Config.fromfile(CONFIG).custom_hooks]
ACCURACY = f'custom_hooks.{HOOKS.index("TopKAccuracyHook")}'
QUICK = [
    '--cfg-options', 'train_cfg.max_iters=12', 'train_dataloader.batch_size=8',
    'train_dataloader.num_workers=0', 'default_hooks.logger.interval=3',
    'default_hooks.checkpoint.interval=5', f'{ACCURACY}.interval=6',
    f'{ACCURACY}.num_images=16'
]

pytestmark = pytest.mark.slow


def run(*command, status=0):
    """Run a command outside the checkout; its two outputs."""
    process = subprocess.run(
        [sys.executable, *map(str, command)],
        capture_output=True, text=True, timeout=600,
        env=dict(os.environ, OMP_NUM_THREADS='1', COLUMNS='200'))
    assert process.returncode == status, process.stdout + process.stderr
    return process.stdout, process.stderr


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Work folder and output of a short demo."""
    work_dir = tmp_path_factory.mktemp('demo')
    output, _ = run(ROOT / 'tools/demo', '--work-dir', work_dir, *QUICK)
    return work_dir, output


class Page(HTMLParser):
    """What a page shows, and what it would load."""

    def __init__(self, text):
        super().__init__()
        self.images, self.loads, self.text, self.open = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag not in ('meta', 'img'):
            self.open.append(tag)
        if tag == 'img':
            self.images.append(attrs['src'])
            assert attrs['alt']
        self.loads += [attrs[name] for name in ('href', 'src') if
                       not attrs.get(name, 'data:').startswith('data:')]
        assert tag not in ('script', 'link', 'iframe')

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_terminal_shows_progress_and_result(demo):
    work_dir, output = demo
    lines = output.splitlines()
    progress = [line for line in lines if 'Iter(train)' in line]
    assert len(progress) == 4 and all('eta: ' in line for line in progress)
    assert all('loss_recon' in line and 'loss_homocon' in line
               and 'images_per_second' in line for line in progress)
    accuracies = [line for line in lines if 'TopK sampling accuracy' in line]
    assert [re.search(r'after (\d+) iter', line)[1]
            for line in accuracies] == ['0', '6', '12']
    assert str(work_dir / 'report.html') in lines[-1]
    assert re.search(r'layers with TopK accuracy above 50 % +\d of 6', output)
    assert len(lines) < 40  # not mmengine's hundreds


def test_the_report_needs_no_other_file(demo):
    work_dir, _ = demo
    report = work_dir / 'report.html'
    page = Page(report.read_text())
    assert page.open == [] and page.loads == []
    # two panels, losses, accuracy over training and per layer, attention
    assert len(page.images) == 6
    for source in page.images:
        data = base64.b64decode(source.partition('base64,')[2])
        image = Image.open(io.BytesIO(data))
        assert image.width > 400 and len(image.getcolors(10**6)) > 20
    text = ' '.join(page.text)
    for words in ('reconstruction loss', 'contrastive loss', 'of 6',
                  'after, new images', 'UnlabelledImageFolder'):
        assert words in text


def test_what_the_demo_learnt_is_used(demo, tmp_path):
    """The transfer demo, of one task; what is finished is not repeated."""
    work_dir, _ = demo
    command = [
        ROOT / 'tools/transfer/demo_transfer.py', '--demo', work_dir, '--work-dir',
        tmp_path, '--objects', '8', '4', '--scenes', '2', '1', '--tasks',
        'classification', '--cfg-options', 'train_cfg.max_epochs=1',
        'train_cfg.val_interval=1', 'param_scheduler.1.end=2',
        'train_dataloader.batch_size=4'
    ]
    output, _ = run(*command)
    finished = re.findall(r'finished (.*);', output)
    assert sorted(finished) == ['MAE pre-training', 'classification from MAE',
                                'classification from MixedAE',
                                'classification from random initialisation']
    assert finished.index('MAE pre-training') < finished.index(
        'classification from MAE')
    table = re.search(r'  starting point +top-1\n((?:  .+ [\d.]+\n){3})', output)
    assert [line.split()[0] for line in table[1].splitlines()] == [
        'random', 'MAE', 'MixedAE']
    again, _ = run(*command)
    assert 'finished' not in again and table[0] in again
    changed, _ = run(*command, 'optim_wrapper.optimizer.lr=0.1')
    assert len(re.findall('finished classification', changed)) == 3
    assert changed.count('is done anew: optim_wrapper.optimizer.lr was') == 3


def test_an_interrupted_demo_goes_on(demo):
    work_dir, _ = demo
    checkpoint = work_dir / 'iter_10.pth'
    assert checkpoint.is_file()
    (work_dir / 'last_checkpoint').write_text(str(checkpoint))
    (work_dir / 'iter_12.pth').unlink()
    output, _ = run(ROOT / 'tools/demo', '--work-dir', work_dir, *QUICK)
    assert 'from iteration 10 where it was interrupted' in output
    steps = re.findall(r'Iter\(train\) \[ *(\d+)/12\]', output)
    assert steps and int(steps[0]) > 10


def test_a_failed_training_shows_why(demo):
    work_dir, _ = demo
    _, errors = run(ROOT / 'tools/demo', '--work-dir', work_dir,
                    '--cfg-options', 'model.data_preprocessor.mix_ratio=0.3',
                    status=2)
    assert 'mix_ratio is 0.3' in errors
    assert 'error: The training stopped' in errors


@pytest.fixture(scope='module')
def trained(demo):
    """Config, checkpoint and images for the tools."""
    work_dir, _ = demo
    return CONFIG, work_dir / 'iter_12.pth', work_dir / 'data/val'


def size_of(path):
    with Image.open(path) as image:
        image.load()
        return image.size


def test_topk_accuracy_tool(trained, tmp_path):
    config, checkpoint, images = trained
    command = [
        TOOLS / 'sampling_accuracy.py', config, checkpoint, images,
        '--num-images', 24, '--versus', 'again', config, checkpoint, '--json',
        tmp_path / 'accuracy.json', '--out', tmp_path / 'accuracy.png'
    ]
    output, _ = run(*command)
    percent = json.loads((tmp_path / 'accuracy.json').read_text())
    assert list(percent) == ['mixedae_vit-tiny_demo', 'again']
    assert percent['again'] == percent['mixedae_vit-tiny_demo']
    assert len(percent['again']) == 6
    assert '  '.join(f'{v:.1f}' for v in percent['again']) in output
    assert min(size_of(tmp_path / 'accuracy.png')) > 300


def test_attention_tool(trained, tmp_path):
    run(TOOLS / 'visualize.py', 'attention', *trained, '--num-images', 3,
        '--out', tmp_path / 'sheet.png')
    assert min(size_of(tmp_path / 'sheet.png')) > 300
    run(TOOLS / 'visualize.py', 'attention', *trained, '--num-images', 2,
        '--size', 0, '--out', tmp_path / 'each')
    assert len(list((tmp_path / 'each').glob('*.png'))) == 2


def test_mixing_tool(trained, tmp_path):
    config, checkpoint, images = trained
    files = sorted(images.glob('*/*.jpg'))
    for seed, name in ((0, 'a'), (0, 'b'), (1, 'c')):
        run(TOOLS / 'visualize.py', 'mixing', config, checkpoint, *files[:4],
            '--seed', seed, '--out', tmp_path / f'{name}.png')
    a, b, c = (Image.open(tmp_path / f'{name}.png').tobytes()
               for name in 'abc')
    assert a == b != c
    run(TOOLS / 'visualize.py', 'mixing', config, checkpoint, images,
        '--num-panels', 2, '--out', tmp_path / 'some.png')
    assert sorted(path.name for path in tmp_path.glob('some*')) == [
        'some_0.png', 'some_1.png']


def test_log_tool(demo, tmp_path):
    work_dir, _ = demo
    output, _ = run(TOOLS / 'plot_logs.py', work_dir, '--list')
    assert 'loss_recon' in output and 'topk_accuracy/layer_06' in output
    run(TOOLS / 'plot_logs.py', work_dir, work_dir, '--names', 'one',
        'two', '--smooth', 2, '--out', tmp_path / 'curves.png')
    assert min(size_of(tmp_path / 'curves.png')) > 300


def test_report_tool(demo, tmp_path):
    work_dir, _ = demo
    run(TOOLS / 'report.py', work_dir, work_dir / 'data/val', '--out',
        tmp_path / 'new/report.html')
    assert len(Page((tmp_path / 'new/report.html').read_text()).images) == 6


@pytest.mark.parametrize('tool, arguments, message', [
    ('sampling_accuracy', ['CONFIG', 'missing.pth', 'IMAGES'],
     'checkpoint missing.pth does not exist'),
    ('sampling_accuracy', ['CONFIG', 'CHECKPOINT', 'EMPTY'], 'EMPTY'),
    ('sampling_accuracy', ['CONFIG', 'CHECKPOINT', 'IMAGES', '--topk', '0'],
     "--topk: '0' must be a whole number of at least 1"),
    ('visualize', ['attention', 'missing.py', 'CHECKPOINT', 'IMAGES'],
     'config missing.py does not exist'),
    ('visualize', ['attention', 'CONFIG', 'CHECKPOINT', 'missing'], 'missing'),
    ('visualize', ['mixing', 'CONFIG', 'CHECKPOINT', 'IMAGE', 'IMAGE'],
     'takes 4 images'),
    ('visualize', ['mixing', 'MAE', 'CHECKPOINT', 'IMAGES'],
     'width 128 instead of 768'),
    ('plot_logs', ['EMPTY'], 'has no log'),
    ('report', ['EMPTY', 'IMAGES'], 'work folder'),
])
def test_tools_refuse_in_one_sentence(trained, tmp_path, tool, arguments,
                                      message):
    config, checkpoint, images = trained
    values = dict(
        CONFIG=config, CHECKPOINT=checkpoint, IMAGES=images, EMPTY=tmp_path,
        IMAGE=next(images.glob('*/*.jpg')),
        MAE=ROOT / 'configs/mae_vitb_300e.py')
    _, errors = run(
        TOOLS / f'{tool}.py', *(values.get(a, a) for a in arguments),
        status=2)
    last = errors.strip().splitlines()[-1]
    assert 'error: ' in last
    assert message.replace('EMPTY', str(tmp_path)) in last
