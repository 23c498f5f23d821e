"""The eleven-point mAP, Table 2's protocol, and data that does not fit."""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_data
import torch
from mmengine.config import Config
from mmpretrain.structures import DataSample

from mixedae_mm.engine import DataCheckHook
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.evaluation import ElevenPointMAP
from transfer import eleven_sets
from small_vit import ARCH, backbone

ROOT = Path(__file__).parents[2]


def eleven_points(scores, truth):
    """Word by word: at each recall the best precision at it or beyond."""
    order = np.argsort(-np.asarray(scores))
    truth = np.asarray(truth)[order]
    points = []
    for found in range(1, len(truth) + 1):
        hits = truth[:found].sum()
        points.append((hits / truth.sum(), hits / found))
    return np.mean([
        max((p for r, p in points if r >= t / 10 - 1e-12), default=0)
        for t in range(11)
    ])


def test_eleven_points_by_hand():
    """Positives at ranks 1, 3 and 6: recall 1/3, 2/3 and 1."""
    scores = torch.tensor([[.9], [.8], [.7], [.6], [.5], [.4]])
    truth = torch.tensor([[1], [0], [1], [0], [0], [1]])
    # Levels 0-.3 see precision 1, .4-.6 see 2/3, .7-1 see 1/2.
    expected = 100 * (4 * 1 + 3 * 2 / 3 + 4 * 1 / 2) / 11
    assert ElevenPointMAP.calculate(scores, truth).item() == pytest.approx(
        expected)


@pytest.mark.parametrize('seed', range(5))
def test_eleven_points_by_definition(seed):
    random = np.random.RandomState(seed)
    scores = random.rand(40, 3)
    truth = (random.rand(40, 3) < .3).astype(int)
    expected = 100 * np.mean(
        [eleven_points(s, t) for s, t in zip(scores.T, truth.T)])
    got = ElevenPointMAP.calculate(torch.tensor(scores), torch.tensor(truth))
    assert got.item() == pytest.approx(expected)


def test_eleven_points_are_mmdets():
    mean_ap = pytest.importorskip('mmdet.evaluation.functional.mean_ap')
    random = np.random.RandomState(0)
    scores, truth = random.rand(50), random.rand(50) < .2
    hits = truth[np.argsort(-scores)].cumsum()
    expected = mean_ap.average_precision(
        hits / hits[-1], hits / np.arange(1, 51), mode='11points')
    got = ElevenPointMAP.calculate(
        torch.tensor(scores)[:, None], torch.tensor(truth).long()[:, None])
    assert got.item() == pytest.approx(100 * float(expected), abs=1e-4)


def test_difficult_images_do_not_count():
    """As an evaluator uses it: class 1 is only marked difficult in image 2."""
    metric = ElevenPointMAP(average=None)
    samples = []
    for scores, labels, difficult in [((.9, .1), [0], []),
                                      ((.1, .9), [0], [1]),
                                      ((.2, .8), [1], [])]:
        sample = DataSample().set_gt_label(labels).set_pred_score(
            torch.tensor(scores))
        sample.set_field(difficult, 'gt_label_difficult', field_type='metainfo')
        samples.append(sample.to_dict())
    metric.process(None, samples)
    result = metric.evaluate(3)
    first, second = result['11-point/AP_classwise']
    # Class 0: right, wrong, right. Class 1 without image 2: right, wrong.
    assert first == pytest.approx(100 * (6 * 1 + 5 * 2 / 3) / 11)
    assert second == pytest.approx(100)
    macro = ElevenPointMAP()
    macro.process(None, samples)
    assert macro.evaluate(3)['11-point/mAP'] == pytest.approx(
        (first + second) / 2)


def set_config(**sweep):
    return Config(
        dict(
            train_dataloader=dict(dataset=dict(type='A', split='trainval')),
            val_dataloader=dict(dataset=dict(type='A', split='test')),
            optim_wrapper=dict(optimizer=dict(lr=0., weight_decay=0.)),
            train_cfg=dict(max_iters=5000, val_interval=1),
            default_hooks=dict(checkpoint=dict(type='CheckpointHook')),
            custom_hooks=[dict(type='NonFiniteLossHook')],
            sweep=sweep))


class Trainer:
    """Answers as a training would: best in the middle of the grid."""

    def __init__(self):
        self.runs = []

    def __call__(self, path):
        config = Config.fromfile(path)
        optimizer = config.optim_wrapper.optimizer
        split = config.val_dataloader.dataset.get('split')
        # A sweep keeps no weights and does not stop where a choice diverges.
        is_final = split == 'test'
        assert len(config.custom_hooks) == is_final
        assert config.default_hooks.checkpoint.get('save_last', True) == is_final
        self.runs.append((optimizer.lr, optimizer.weight_decay, split))
        value = 90 - abs(np.log10(optimizer.lr) + 2) - optimizer.weight_decay
        if split == 'test':
            value -= 20
        log = path.parent / '2026/vis_data/scalars.json'
        log.parent.mkdir(parents=True)
        log.write_text(json.dumps(dict(loss=1., step=5000)) + '\n' + json.dumps(
            {'accuracy/top1': value, 'step': 5000}) + '\n')
        return 0


def test_the_sweep_tests_once_with_what_validated_best(tmp_path):
    trainer, told = Trainer(), []
    choices = eleven_sets.grid((1e-3, 1e-2, 1e-1), (0., 1e-4))
    config = set_config(train_split='train', val_split='val')
    value = eleven_sets.sweep('a', config, 'data/a', tmp_path, choices,
                              trainer, told.append)
    assert value == pytest.approx(70)
    assert trainer.runs[-1] == (1e-2, 0., 'test')
    assert [split for *_, split in trainer.runs[:-1]] == ['val'] * 6
    assert told[-1] == 'a lr0.01_wd0: 70.0 in test' and len(told) == 7
    # Again: nothing is trained twice.
    again = Trainer()
    assert value == eleven_sets.sweep('a', config, 'data/a', tmp_path, choices,
                                      again, told.append)
    assert again.runs == []


def test_a_failed_run_names_its_folder(tmp_path):
    with pytest.raises(ConfigurationError, match='lr0.1_wd0 ended with status 3'):
        eleven_sets.sweep(
            'a', set_config(train_split='train', val_split='val'), 'data/a',
            tmp_path, eleven_sets.grid((.1, ), (0., )), lambda path: 3, print)


def test_a_missing_set_stops_before_the_first_run(tmp_path):
    (tmp_path / 'b').mkdir()
    with pytest.raises(
            ConfigurationError,
            match=r'missing: a \(.*a\); run those that are there with --sets b'):
        eleven_sets.check_folders(
            dict(a=str(tmp_path / 'a'), b=str(tmp_path / 'b')))


def test_table_2s_averages_are_the_papers():
    names = list(eleven_sets.SETS)
    lines = eleven_sets.table(eleven_sets.PAPER, names).splitlines()
    assert lines[0].startswith('| Method | Aircraft | Caltech | Cars |')
    assert lines[2].endswith('| 85.3 |') and 'MAE' in lines[2]
    assert lines[3].endswith('| 86.9 |') and 'MixedAE' in lines[3]


@pytest.mark.slow
def test_the_command_prints_table_2(tmp_path, monkeypatch):
    """Two sets in their real formats, one with validation images, one of
    several labels, with a ViT that trains in a second."""
    for name in ('dtd', 'VOC2007'):
        tiny_data.small_set(name.lower(), tmp_path / 'data' / name, 8, monkeypatch)
    command = [
        sys.executable, ROOT / 'tools/transfer/transfer_eleven.py', tmp_path / 'vit.pth',
        '--sets', 'dtd', 'voc2007', '--data-root', tmp_path / 'data',
        '--learning-rates', '1e-2', '--weight-decays', '0', '--work-dir',
        tmp_path / 'runs', '--cfg-options', 'train_cfg.max_iters=2',
        'train_dataloader.batch_size=4', 'train_dataloader.num_workers=0',
        'val_dataloader.num_workers=0', 'model.head.in_channels=32',
        'model.backbone.patch_size=32', 'model.backbone.img_size=64',
        'model.backbone.arch._delete_=True',
        'model.backbone.arch.embed_dims=32', 'model.backbone.arch.num_layers=2',
        'model.backbone.arch.num_heads=2',
        'model.backbone.arch.feedforward_channels=32'
    ]
    vit = backbone(arch=dict(ARCH, num_layers=2, feedforward_channels=32),
                   patch_size=32, img_size=64)
    torch.save(vit.state_dict(), tmp_path / 'vit.pth')
    environment = dict(os.environ, OMP_NUM_THREADS='1')
    for _ in range(2):  # the second time nothing is left to do
        done = subprocess.run(list(map(str, command)), env=environment,
                              capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        header, _, mae, mixedae, row = done.stdout.splitlines()[-5:]
        assert header == '| Method | DTD | VOC | Avg. |'
        assert mae == '| MAE (paper) | 75.3 | 86.0 | 80.7 |'
        assert re.fullmatch(r'\| vit( \| \d+\.\d){3} \|', row), row
    assert len(list(tmp_path.glob('runs/*/*/result.json'))) == 4
    # Weights are kept of the final runs only.
    assert len(list(tmp_path.glob('runs/*/*/*.pth'))) == 2
    assert len(list(tmp_path.glob('runs/*/test_*/*.pth'))) == 2


class Dataset:

    def __init__(self, classes=('a', 'b'), size=3, **files):
        self.metainfo = dict(classes=classes) if classes else {}
        self.size, self.files = size, files

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        return self.files


class Loop:

    def __init__(self, dataset):
        self.dataloader = self
        self.dataset = dataset


class Runner:
    """What the hook sees of a runner."""

    def __init__(self, train, val=None, num_classes=2):
        head = torch.nn.Linear(1, 1)
        head.num_classes = num_classes
        rpn = torch.nn.Linear(1, 1)
        rpn.num_classes = 1
        self.model = torch.nn.ModuleDict(dict(decode_head=head, rpn_head=rpn))
        self.train_loop = Loop(train)
        self.val_loop = self.test_loop = None if val is None else Loop(val)


def test_data_that_fits_is_let_through(tmp_path):
    image = tmp_path / 'a.jpg'
    image.touch()
    runner = Runner(Dataset(img_path=str(image)), Dataset())
    hook = DataCheckHook()
    hook.before_train(runner)
    hook.before_val(runner)
    hook.before_test(runner)
    hook.before_train(Runner(Dataset(classes=None)))


@pytest.mark.parametrize('dataset, message', [
    (Dataset(classes=('a', 'b', 'c')),
     r'The Dataset of train_dataloader has 3 classes, but the model predicts '
     r'2 \(decode_head.num_classes\)'),
    (Dataset(size=0), 'has no samples; is its data_root right'),
    (Dataset(img_path='/none/a.jpg'), 'names /none/a.jpg, which does not'),
    (Dataset(seg_map_path='/none/a.png'), 'names /none/a.png, which does not'),
])
def test_data_that_does_not_fit_is_refused(dataset, message):
    with pytest.raises(ConfigurationError, match=message):
        DataCheckHook().before_train(Runner(dataset))
    with pytest.raises(
            ConfigurationError, match=message.replace('train_', 'val_')):
        DataCheckHook().before_train(Runner(Dataset(), dataset))
