"""k-NN accuracy in the middle of a training run."""
import inspect
import os
import textwrap
from types import SimpleNamespace

import pytest
import torch
from images import save
from mmengine.registry import DATASETS, HOOKS
from mmpretrain.structures import DataSample
from PIL import Image
from torch.utils.data import Dataset

from mixedae_mm.analysis import evaluating
from mixedae_mm.analysis.frozen_classifiers import knn_accuracy
from mixedae_mm.analysis.frozen_features import extract_features
from mixedae_mm.analysis.run_log import read_run
from mixedae_mm.engine import KNNEvaluationHook
from mixedae_mm.utils.errors import ConfigurationError
from test_training_hooks import train


@DATASETS.register_module()
class NoisyColours(Dataset):
    """Three classes of colours, with noise, sorted by class."""

    def __init__(self, size, seed):
        generator = torch.Generator().manual_seed(seed)
        self.labels = torch.arange(size) * 3 // size
        noise = torch.randint(0, 90, (size, 3, 16, 16), generator=generator)
        self.images = (noise + 60 * self.labels.view(-1, 1, 1, 1)).byte()

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return dict(inputs=self.images[index],
                    data_samples=DataSample().set_gt_label(self.labels[index]))


SETS = dict(
    train_dataset=dict(type='NoisyColours', size=30, seed=0),
    test_dataset=dict(type='NoisyColours', size=12, seed=1))
HOOK = dict(type='KNNEvaluationHook', interval=2, k=3, **SETS)


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    return train(tmp_path_factory.mktemp('watched'), [HOOK])


def test_the_log_has_the_accuracy_of_the_model(watched):
    steps, percent = read_run(watched.work_dir)['knn_accuracy']
    assert steps.tolist() == [2, 4, 5]  # and at the end
    with evaluating(watched.model):
        bank, queries = (
            extract_features(watched.model, NoisyColours(size, seed),
                             ['layer_03/mean'])
            for size, seed in ((30, 0), (12, 1)))
    expected = 100 * knn_accuracy(bank, queries, 'layer_03/mean', k=3)
    assert percent[-1] == pytest.approx(expected, abs=1e-3)
    assert expected > 60  # colours are easy; chance is 33


def test_evaluating_changes_nothing(watched, tmp_path):
    expected = train(tmp_path, []).model.state_dict()
    for name, value in watched.model.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_other_readouts_and_fewer_images(tmp_path):
    hook = dict(HOOK, readout='layer_02/cls', max_images=6, interval=5)
    runner = train(tmp_path, [hook])
    kept = next(h for h in runner.hooks if isinstance(h, KNNEvaluationHook))
    # Spread over the classes, which the data set is sorted by.
    labels = [int(s['data_samples'].gt_label) for s in kept.train_dataset]
    assert labels == [0, 0, 1, 1, 2, 2]
    assert read_run(tmp_path)['knn_accuracy'][0].tolist() == [5]


@pytest.mark.parametrize('name, value, allowed', [
    ('interval', 0, 'at least 1'), ('k', 0, 'at least 1'), ('k', 2.5, 'at least 1'),
    ('max_images', 0, 'at least 1'), ('max_images', -1, 'at least 1'),
    ('batch_size', 0, 'at least 1'), ('num_workers', -1, 'at least 0'),
    ('temperature', 0, 'above 0'), ('temperature', float('nan'), 'above 0')])
def test_numbers_that_are_not_allowed_are_refused(name, value, allowed):
    with pytest.raises(ConfigurationError, match=f'^{name} .* {value}, .* {allowed}'):
        KNNEvaluationHook(**{**SETS, name: value})


def test_more_neighbours_than_images_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match='20 neighbours'):
        train(tmp_path, [dict(HOOK, max_images=10, k=20)], 1)


@pytest.mark.parametrize('readout', ['layer_99/cls', 'layer_02/median', 'cls'])
def test_readouts_that_do_not_exist_are_refused_at_the_start(
        tmp_path, monkeypatch, readout):
    monkeypatch.setattr(KNNEvaluationHook, 'evaluate', None)  # not reached
    with pytest.raises(ConfigurationError, match='99|median|cls'):
        train(tmp_path, [dict(HOOK, readout=readout)], 1)


def coloured_folders(folder, names):
    for index, name in enumerate(names):
        for number in range(2):
            save(folder / name / f'{number}.jpg',
                 Image.new('RGB', (20, 20), (90 * index, 9 * number, 0)))


def test_the_documented_config_runs(tmp_path):
    """And labels that mean other classes in the two sets are refused."""
    # Python 3.13 takes the indentation away itself.
    _, _, code = inspect.getdoc(KNNEvaluationHook).partition('::\n')
    code = textwrap.dedent(code.partition('Args:')[0])
    namespace = {}
    for ours, here in (('data/animals', str(tmp_path)), ('size=224', 'size=16')):
        code = code.replace(ours, here)
    exec(code, namespace)
    settings, = namespace['custom_hooks']
    coloured_folders(tmp_path / 'train', ['ant', 'bee', 'cat'])
    coloured_folders(tmp_path / 'val', ['ant', 'bee', 'cat'])
    train(tmp_path / 'run', [dict(settings, k=2)], 1)
    assert read_run(tmp_path / 'run')['knn_accuracy'][0].tolist() == [1]
    os.rename(tmp_path / 'val/cat', tmp_path / 'val/aardvark')
    hook = HOOKS.build(dict(settings, k=2))
    with pytest.raises(ConfigurationError, match=f"'ant'.*{tmp_path}.*'aardvark'"):
        hook.before_train(SimpleNamespace(model=torch.nn.Linear(1, 1)))
