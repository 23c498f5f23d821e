"""k-NN and probe as a command: the numbers and what they are compared with."""
import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from PIL import Image

from analysis_tools.knn_and_probe import by_layer, chance_of
from mixedae_mm.analysis import frozen_classifiers
from mixedae_mm.analysis.frozen_classifiers import best_probe
from mixedae_mm.analysis.frozen_features import LabelledFeatures
from mixedae_mm.utils.errors import ConfigurationError
from small_models import MODEL


@pytest.fixture
def run_files(tmp_path):
    """A config, its checkpoint, and bright, dark and grey images by class."""
    Config(dict(model=MODEL, default_scope='mmpretrain')).dump(tmp_path / 'config.py')
    model = MODELS.build(dict(MODEL, _scope_='mmpretrain'))
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'model.pth')
    for split, count in (('train', 8), ('val', 4)):
        for level, name in ((20, 'dark'), (120, 'grey'), (230, 'bright')):
            folder = tmp_path / f'images/{split}/{name}'
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.random.normal(level, 10, (20, 18, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f'{i}.webp')
    return tmp_path


def test_accuracies_stand_beside_chance_and_random_weights(run_files, command, capsys):
    assert command(
        'knn_and_probe', run_files / 'config.py', run_files / 'model.pth',
        run_files / 'images', '--num-workers', 0, '--device', 'cpu', '--k', 3,
        '--json', run_files / 'out.json') == 0
    printed = capsys.readouterr().out
    results = json.loads((run_files / 'out.json').read_text())
    assert set(results) == {'config', 'random weights'}
    for kinds in results.values():
        for kind in ('k-NN', 'linear probe'):
            assert kinds[kind]['accuracy'] > 0.9  # colours are easy
            assert len(kinds[kind]['validation']) == 9
    assert 'chance: 33.33 %' in printed and '3 classes' in printed
    assert printed.count('layer_03 ') >= 4  # each table has a line for it


def test_a_table_by_layer():
    result = frozen_classifiers.ReadoutAccuracy(0.5, 'layer_02/max', {
        'layer_01/mean': 0.25, 'layer_02/mean': 0.5, 'layer_02/max': 0.75})
    lines = [line.split() for line in by_layer(result).splitlines()]
    assert lines == [
        ['mean', 'max'], ['layer_01', '25.0'], ['layer_02', '50.0', '75.0']]


def test_chance_is_the_most_frequent_class():
    assert chance_of(torch.tensor([0, 1, 1, 2])) == 0.5


@pytest.mark.parametrize('iterations, lines', [(1, 1), (1000, 0)])
def test_a_probe_that_does_not_converge_says_so_once(monkeypatch, recwarn, warned,
                                                     iterations, lines):
    monkeypatch.setattr(frozen_classifiers, 'PROBE_ITERATIONS', iterations)
    labels = torch.arange(40) % 4
    data = LabelledFeatures({'layer_01/mean': torch.randn(40, 5),
                             'layer_02/mean': torch.randn(40, 5)}, labels)
    best_probe(data, data)
    assert len(warned) == lines
    assert not warned or ('8 of 8' in warned[0] and 'layer_01/mean' in warned[0])
    assert not [w for w in recwarn if 'converge' in str(w.message)]


def test_a_probe_of_one_class_is_refused():
    data = LabelledFeatures({'layer_01/mean': torch.randn(8, 5)},
                            torch.zeros(8, dtype=torch.int64))
    with pytest.raises(ConfigurationError, match='two classes'):
        best_probe(data, data)
