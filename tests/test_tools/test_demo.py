"""The demo and the tools that look at its run, as commands."""
import base64
import io
import json
import os
import re
import shutil
import sys
from pathlib import Path

import preloaded
import pytest
from mmengine.config import Config
from PIL import Image

from transfer.fine_tunings import MAE, MIXEDAE, RANDOM, TASKS

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
    """Run a command; its two outputs."""
    process = preloaded.run([sys.executable, *command],
                            env=dict(os.environ, COLUMNS='200'))
    assert process.returncode == status, process.stdout + process.stderr
    return process.stdout, process.stderr


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """Work folder and output of a short demo."""
    work_dir = tmp_path_factory.mktemp('demo')
    output, _ = run(ROOT / 'tools/demo', '--work-dir', work_dir, *QUICK)
    return work_dir, output


def pictures(report):
    """Those of a page, which loads nothing from elsewhere."""
    page = report.read_text()
    assert not re.search(r'<(script|link|iframe)|(href|src)="(?!data:|#)', page)
    return [Image.open(io.BytesIO(base64.b64decode(data)))
            for data in re.findall(r'src="data:image/png;base64,([^"]*)"', page)]


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
    # two panels, losses, accuracy over training and per layer, attention
    assert len(pictures(report)) == 6
    for image in pictures(report):
        assert image.width > 400 and len(image.getcolors(10**6)) > 20
    for words in ('reconstruction loss', 'contrastive loss', 'of 6',
                  'after, new images', 'UnlabelledImageFolder'):
        assert words in report.read_text()


# Options that make each task short.
SHORT = {
    'classification': ['train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
                       'param_scheduler.1.end=2', 'train_dataloader.batch_size=4'],
    'detection': [
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
        'default_hooks.checkpoint.interval=2', 'param_scheduler.0.end=1',
        'param_scheduler.1.begin=1', 'param_scheduler.1.end=2',
        'train_dataloader.batch_size=2'],
}


@pytest.mark.parametrize('task', SHORT)
def test_what_the_demo_learnt_is_used(demo, tmp_path, task):
    """The transfer demo; what is finished is not repeated."""
    if task == 'detection':
        pytest.importorskip('mmcv._ext')
        pytest.importorskip('mmdet')
    work_dir, _ = demo
    command = [
        ROOT / 'tools/transfer/demo_transfer.py', '--demo', work_dir, '--work-dir',
        tmp_path, '--objects', '8', '4', '--scenes', '2', '1', '--tasks', task,
        '--cfg-options', *SHORT[task]]
    output, _ = run(*command)
    finished = re.findall(r'finished (.*?);', output)
    assert set(finished) == {'MAE pre-training', *(
        f'{task} from {start}' for start in (RANDOM, MAE, MIXEDAE))}
    assert finished.index('MAE pre-training') < finished.index(f'{task} from MAE')
    columns = TASKS[task].metrics
    table = re.search(r'  starting point +' + ' +'.join(columns)
                      + r'\n((?:  .+ [\d.]+\n){3})', output)
    assert [line.split()[0] for line in table[1].splitlines()] == [
        'random', 'MAE', 'MixedAE']
    again, _ = run(*command)
    assert 'finished' not in again and table[0] in again


def test_an_interrupted_demo_goes_on(demo, tmp_path):
    work_dir = shutil.copytree(demo[0], tmp_path / 'demo')
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


def is_a_figure(path):
    with Image.open(path) as image:
        image.load()
        return min(image.size) > 300


def test_topk_accuracy_tool(trained, tmp_path):
    config, checkpoint, images = trained
    output, _ = run(
        TOOLS / 'sampling_accuracy.py', config, checkpoint, images,
        '--num-images', 24, '--versus', 'again', config, checkpoint, '--json',
        tmp_path / 'accuracy.json', '--out', tmp_path / 'accuracy.png')
    percent = json.loads((tmp_path / 'accuracy.json').read_text())
    assert list(percent) == ['mixedae_vit-tiny_demo', 'again']
    assert percent['again'] == percent['mixedae_vit-tiny_demo']
    assert len(percent['again']) == 6
    assert '  '.join(f'{v:.1f}' for v in percent['again']) in output
    assert is_a_figure(tmp_path / 'accuracy.png')


@pytest.mark.parametrize('options, files', [
    (['attention', '--num-images', 3, '--out', 'a.png'], ['a.png']),
    (['attention', '--num-images', 1, '--size', 0, '--out', 'a'], ['a/*.png']),
    (['mixing', '--num-panels', 2, '--out', 'a.png'], ['a_0.png', 'a_1.png'])])
def test_visualize_tool(trained, tmp_path, options, files):
    kind, *options = options
    run(TOOLS / 'visualize.py', kind, *trained, *options[:-1], tmp_path / options[-1])
    for name in files:
        file, = tmp_path.glob(name)
        assert is_a_figure(file)


def test_log_tool(demo, tmp_path):
    work_dir, _ = demo
    output, _ = run(TOOLS / 'plot_logs.py', work_dir, '--list')
    assert 'loss_recon' in output and 'topk_accuracy/layer_06' in output
    run(TOOLS / 'plot_logs.py', work_dir, work_dir, '--names', 'one',
        'two', '--smooth', 2, '--out', tmp_path / 'curves.png')
    assert is_a_figure(tmp_path / 'curves.png')
