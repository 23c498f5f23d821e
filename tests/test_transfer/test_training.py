"""Real commands of the three toolboxes on tiny data, from a checkpoint."""
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from PIL import Image
from preloaded import output_of

from demo.labelled_objects import make_object_folder, make_scene_folder
from mixedae_mm.launch.entry import adapt_to_cpu
from mixedae_mm.models import MixedAE
from reliability.kills import kill_and_compare
from own_data import LOADERS, last_checkpoint
from tiny_data import scenes
from transfer import fine_tunings as transfer_demo
from transfer.demo_transfer import write_report

ROOT = Path(__file__).parents[2]
DEMO = ROOT / 'configs/demo/transfer'
TRAIN, TEST = ROOT / 'tools/train.py', ROOT / 'tools/test.py'

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def demo(tmp_path_factory):
    """The demo's encoder, barely initialised, and a few labelled images."""
    folder = tmp_path_factory.mktemp('demo')
    config = Config.fromfile(ROOT / 'configs/demo/mixedae_vit-tiny_demo.py')
    model = MODELS.build(config.model)
    assert isinstance(model, MixedAE)
    torch.save(dict(state_dict=model.state_dict()), folder / 'mixedae.pth')
    classes = transfer_demo.CLASSES
    make_object_folder(str(folder / 'objects'), 16, 8, size=64, classes=classes)
    make_scene_folder(str(folder / 'scenes'), 4, 2, size=96, classes=classes)
    return folder


# config, data, what shortens it, metric, tensors of the backbone
TASKS = {
    'mmpretrain':
    ('finetune_vit-tiny_objects.py', 'objects', [
        'train_cfg.max_epochs=1', 'train_cfg.val_interval=1',
        'param_scheduler.1.end=3', 'train_dataloader.batch_size=8'
    ], 'accuracy/top1', 'loaded 76 of 78 backbone tensors; '
     'new, not in the checkpoint: ln2; ignored: segment_embed, ln1, head'),
    'mmseg':
    ('upernet_vit-tiny_scenes.py', 'scenes/ade', [
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
        'train_dataloader.batch_size=2'
    ], 'mIoU', 'loaded 76 of 76 backbone tensors; resized pos_embed 8x8 -> '
     '12x12; ignored: segment_embed, ln1, head, neck'),
    'mmdet':
    ('cascade-mask-rcnn_vit-tiny_scenes.py', 'scenes/coco', [
        'train_cfg.max_iters=2', 'train_cfg.val_interval=2',
        'train_dataloader.batch_size=2', 'model.test_cfg.rcnn.max_per_img=5'
    ], 'coco/segm_mAP', 'loaded 76 of 76 backbone tensors; '
     'ignored: segment_embed, ln1, head, neck'),
}


@pytest.fixture(scope='module')
def trained(demo):
    """Fine-tuned once a toolbox; (work folder, config, weights, output)."""
    done = {}

    def train(toolbox):
        pytest.importorskip(toolbox)
        if toolbox not in done:
            config, data, options, *_ = TASKS[toolbox]
            folder = demo / toolbox
            output = output_of(
                TRAIN, DEMO / config, '--work-dir', folder,
                '--cfg-options', 'train_dataloader.num_workers=0',
                'val_dataloader.num_workers=0',
                'default_hooks.checkpoint.interval=1', *options,
                cwd=demo, DATA_ROOT=demo / data, PRETRAINED=demo / 'mixedae.pth')
            done[toolbox] = folder, folder / config, last_checkpoint(folder), output
        return done[toolbox]

    return train


@pytest.mark.parametrize('toolbox', TASKS)
def test_training_starts_from_the_checkpoint_and_is_tested(trained, demo, toolbox):
    """Testing needs no pre-trained weights: who was given the checkpoint has none."""
    folder, config, weights, output = trained(toolbox)
    _, data, _, metric, loaded = TASKS[toolbox]
    lines = [line for line in output.splitlines() if 'backbone tensors' in line]
    assert len(lines) == 1 and f'mixedae.pth: {loaded}' in lines[0]
    assert re.search(rf'{metric}: \d', output)
    losses = [float(v) for v in re.findall(r' loss: (\S+)', output)]
    assert losses and np.isfinite(losses).all()
    output = output_of(
        TEST, config, weights, '--work-dir', folder / 'test', '--cfg-options',
        'model.backbone.init_cfg.checkpoint=no.pth', cwd=demo, DATA_ROOT=demo / data)
    assert re.search(rf'{metric}: \d', output)


# What makes runs of six steps, with checkpoints in between.
SHORT = {
    'mmpretrain': {'train_cfg.max_epochs': 3, 'train_cfg.val_interval': 2,
                   'param_scheduler.1.end': 3, 'train_dataloader.batch_size': 8},
    'mmseg': {'train_cfg.max_iters': 6, 'train_cfg.val_interval': 6,
              'train_dataloader.batch_size': 2},
    'mmdet': {'train_cfg.max_iters': 6, 'train_cfg.val_interval': 6,
              'train_dataloader.batch_size': 2, 'model.test_cfg.rcnn.max_per_img': 5},
}


@pytest.mark.parametrize('toolbox, phase', [
    ('mmpretrain', 'evaluation'), ('mmseg', 'step'), ('mmdet', 'write')])
def test_killed_runs_resume_exactly(demo, tmp_path, monkeypatch, toolbox, phase):
    pytest.importorskip(toolbox)
    config, data, *_ = TASKS[toolbox]
    monkeypatch.setenv('DATA_ROOT', str(demo / data))
    monkeypatch.setenv('PRETRAINED', str(demo / 'mixedae.pth'))
    cfg = Config.fromfile(DEMO / config)
    cfg.merge_from_dict({'default_hooks.checkpoint.interval': 2,
                         'default_hooks.logger.interval': 1, **SHORT[toolbox]})
    kill_and_compare(cfg, str(tmp_path), kills=1, phases=[phase])


def test_several_scales_and_small_images(trained, demo):
    """Scale 0.5, of 64 pixels, is smaller than the window that slides."""
    folder, config, weights, _ = trained('mmseg')
    output = output_of(
        TEST, config, weights, '--tta', '--work-dir', folder / 'tta', '--cfg-options',
        'test_dataloader.dataset.indices=1', cwd=demo, DATA_ROOT=demo / 'scenes/ade')
    assert re.search(r'mIoU: \d', output)


def built(toolbox, trained, **changes):
    """A fine-tuned model in this process."""
    _, config, weights, _ = trained(toolbox)
    config = Config.fromfile(config)
    config.launcher = 'none'
    adapt_to_cpu(config)
    config.merge_from_dict(changes)
    with DefaultScope.overwrite_default_scope(toolbox):
        model = MODELS.build(config.model)
    model.load_state_dict(
        torch.load(weights, weights_only=False)['state_dict'])
    return model.eval()


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_segmentation_is_cropped_back_from_its_padding(trained, mode):
    """An image of 90 x 117 with patches of 8: what the segmentor returns is
    the part of the padded image's prediction that the image covers."""
    changes = {'model.test_cfg.mode': mode}
    segmentor = built('mmseg', trained, **changes)
    from mmseg.structures import SegDataSample
    image = torch.randint(0, 256, (3, 90, 117), dtype=torch.uint8)
    sample = SegDataSample(
        metainfo=dict(ori_shape=(90, 117), img_shape=(90, 117)))
    data = segmentor.data_preprocessor(
        dict(inputs=[image], data_samples=[sample]), training=False)
    assert data['inputs'].shape[-2:] == (96, 120)
    with torch.no_grad():
        result, = segmentor(**data, mode='predict')
        logits = segmentor.inference(
            data['inputs'],
            [dict(ori_shape=(96, 120), img_shape=(96, 120))])
    assert result.seg_logits.shape[-2:] == (90, 117)
    torch.testing.assert_close(
        result.seg_logits.data, logits[0, :, :90, :117], atol=1e-5, rtol=1e-4)


def test_features_of_a_detector_lie_at_their_stride(trained):
    """mmdet pads to its divisor; the pyramid covers that exactly."""
    detector = built('mmdet', trained)
    image = torch.randint(0, 256, (3, 90, 117), dtype=torch.uint8)
    data = detector.data_preprocessor(
        dict(inputs=[image], data_samples=None), training=False)
    inputs = data['inputs']
    assert inputs.shape[-2:] == (96, 128)
    with torch.no_grad():
        levels = detector.extract_feat(inputs)
    assert [tuple(level.shape[-2:]) for level in levels[:4]] == [
        (96 // s, 128 // s) for s in (4, 8, 16, 32)
    ]


def test_report_of_the_transfer_demo(trained, demo, tmp_path):
    """Pictures of what models of all three toolboxes say, in one HTML page."""
    runs = []
    tasks = [task for name, task in transfer_demo.TASKS.items() if name != 'detection']
    for toolbox, task in zip(TASKS, tasks):  # the last one in scenes that are unseen
        folder, _, weights, _ = trained(toolbox)
        for start in (transfer_demo.MAE, transfer_demo.MIXEDAE):
            run = transfer_demo.fine_tuning(
                task, start, None, demo, 16, tmp_path, {})
            runs.append(run._replace(training=run.training._replace(
                folder=folder, last_checkpoint=weights.name)))
    columns = [column for task in tasks for column in task.metrics]
    results = {run.start: dict.fromkeys(columns, 12.34) for run in runs}
    write_report(
        tmp_path / 'report.html', runs, results, dict(steps=3, batch=64),
        dict(machine='two cores'))
    page = (tmp_path / 'report.html').read_text()
    assert page.count('src="data:image/png;base64,') == 3
    assert len(re.findall(r'<img [^>]*alt="[^"]{20}', page)) == 3
    assert page.count('12.3') == 8 and 'two cores' in page
    for run in runs:
        assert run.task.name in page and run.start in page


def snippet(name):
    """A code block of the documentation, as readers copy it."""
    text = (ROOT / 'docs/transfer.md').read_text()
    return re.search(
        rf'<!-- snippet: {name} -->\n```python\n(.*?)```', text, re.S)[1]


def test_inferencers_as_documented(trained, demo, tmp_path):
    for toolbox, name in dict(
            mmpretrain='classifier', mmseg='segmentor',
            mmdet='detector').items():
        *_, weights, _ = trained(toolbox)
        (tmp_path / f'{name}.py').write_text(
            f"_base_ = 'mixedae_mm::demo/transfer/{TASKS[toolbox][0]}'\n")
        shutil.copy(weights, tmp_path / f'{name}.pth')
    photo = next((demo / 'scenes/ade/images/validation').iterdir())
    shutil.copy(photo, tmp_path / 'photo.jpg')
    (tmp_path / 'infer.py').write_text(snippet('inferencers'))
    # The pre-trained weights are not needed any more, and not there.
    output = output_of('infer.py', cwd=tmp_path)
    lines = output.splitlines()
    # At the end of the progress bar's line, where that is not a terminal.
    assert re.search(r'(brick|gravel)_\w+$', output, re.MULTILINE), output
    width, height = Image.open(photo).size
    assert f'({height}, {width})' in output
    assert any(re.fullmatch(r'\[[\d, ]*\]', line) for line in lines), output


def installed(toolbox, path):
    """A folder that came with a toolbox."""
    module = pytest.importorskip(toolbox)
    return Path(module.__file__).parent / '.mim' / path


@pytest.fixture
def outside(tmp_path, demo):
    """Another project: stock configs, data, our weights; nothing of ours."""
    arch = dict(
        embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=192)
    vit = MODELS.build(dict(type='MixedAEViT', arch=arch, num_sources=4))
    folder = tmp_path / 'work_dirs/mixedae_vitb_1600e'
    folder.mkdir(parents=True)
    torch.save(
        dict(state_dict={f'backbone.{k}': v for k, v in vit.state_dict().items()}),
        folder / 'epoch_1600.pth')
    (tmp_path / 'data').mkdir()
    scenes(tmp_path / 'scenes', num_train=2, num_val=1)
    (tmp_path / 'data/coco').symlink_to(tmp_path / 'scenes/coco')
    (tmp_path / 'data/ade').mkdir()
    (tmp_path / 'data/ade/ADEChallengeData2016').symlink_to(
        tmp_path / 'scenes/ade')
    return tmp_path


def own_training(toolbox, stock, config, outside, options):
    """Put the documented config beside the stock one, train with the
    toolbox's own command. The ViT has narrower layers, for time."""
    shutil.copytree(
        installed(toolbox, 'configs'),
        outside / 'configs',
        ignore=shutil.ignore_patterns('__pycache__'))
    text = config.replace("arch='base'", (
        'arch=dict(embed_dims=768, num_layers=12, num_heads=12, '
        'feedforward_channels=192)'))
    assert text != config
    path = outside / f'configs/{stock}/mine.py'
    path.write_text(text)
    return output_of(
        installed(toolbox, 'tools/train.py'), path, '--cfg-options', *LOADERS, *options,
        cwd=outside)


def test_a_stock_mmseg_config_gains_the_backbone(outside):
    output = own_training(
        'mmseg', 'vit', snippet('mmseg'), outside, [
            'train_cfg.max_iters=1', 'train_cfg.val_interval=1',
            'train_dataloader.dataset.pipeline.3.crop_size="(64,64)"',
            'model.data_preprocessor.size="(64,64)"',
            'val_dataloader.dataset.pipeline.1.scale="(128,64)"'
        ])
    assert ('epoch_1600.pth: loaded 148 of 148 backbone tensors; resized '
            'pos_embed 14x14 -> 32x32; ignored: segment_embed, ln1') in output
    assert re.search(r'mIoU: \d', output)


def test_a_stock_mmdet_config_gains_the_backbone(outside):
    output = own_training(
        'mmdet', 'mask_rcnn', snippet('mmdet'), outside, [
            'train_cfg.max_epochs=1', 'optim_wrapper.optimizer.lr=1e-4',
            'train_dataloader.dataset.pipeline.2.scale="(128,96)"',
            'val_dataloader.dataset.pipeline.1.scale="(128,96)"',
            'train_dataloader.batch_size=1', 'model.train_cfg.rcnn.sampler.num=32',
            # After two steps nothing is certain.
            'model.test_cfg.rcnn.score_thr=0.0', 'model.test_cfg.rcnn.max_per_img=5'
        ])
    assert ('epoch_1600.pth: loaded 148 of 148 backbone tensors; '
            'ignored: segment_embed, ln1') in output
    # The stock config sets no seed: so short a training may find nothing.
    assert re.search(
        r'coco/segm_mAP: |results of the whole dataset is empty', output)
