"""The data browser shows what a model gets."""
import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mixedae_mm.analysis import figure_to_array
from mixedae_mm.analysis.browsing import browse
from mixedae_mm.analysis.panels import as_rgb
from mixedae_mm.utils.errors import ConfigurationError
from small_models import MODEL

COLOURS = [(200, 30, 30), (30, 200, 30), (30, 30, 200), (200, 200, 30)]


@pytest.fixture
def config(tmp_path):
    for i, colour in enumerate(COLOURS):
        Image.new('RGB', (40, 40), colour).save(tmp_path / f'{i}.png')
    return Config(dict(
        model=MODEL,
        train_dataloader=dict(dataset=dict(
            type='UnlabelledImageFolder', data_root=str(tmp_path), pipeline=[
                dict(type='LoadImageTensor'),
                dict(type='TensorRandomResizedCrop', size=16),
                dict(type='PackInputs')]))))


def test_a_group_and_its_mix_are_drawn_in_their_colours(config):
    figure, filled = browse(config, 'train', [0, 1, 2, 3, 0])
    assert len(filled.axes) == 5  # an incomplete group begins again
    assert [axes.get_title() for axes in figure.axes] == [
        '0.png', '1.png', '2.png', '3.png', 'mixed']
    pixels = figure_to_array(figure).reshape(-1, 3) // 8
    colours, counts = np.unique(pixels, axis=0, return_counts=True)
    assert {tuple(c // 8 for c in colour) for colour in COLOURS} <= {
        tuple(colour) for colour in colours[counts > 300]}
    mixed = figure.axes[-1].images[0].get_array()
    values, counts = np.unique((mixed.reshape(-1, 3) * 255).round(), axis=0,
                               return_counts=True)
    assert len(values) == 4 and len(set(counts)) == 1  # equal shares


def test_normalisation_is_undone():
    class Preprocessor:
        mean = torch.tensor([10., 20., 30.]).view(3, 1, 1)
        std = torch.tensor([2., 3., 4.]).view(3, 1, 1)

    image = torch.rand(3, 2, 2)
    normalised = (image * 255 - Preprocessor.mean) / Preprocessor.std
    torch.testing.assert_close(as_rgb(normalised[None], Preprocessor)[0], image)


def test_data_that_are_not_there(config):
    with pytest.raises(ConfigurationError, match='no val_dataloader'):
        next(browse(config, 'val', [0]))
    config.train_dataloader.dataset = dict(
        type='CustomDataset', data_root='nowhere', pipeline=[])
    with pytest.raises(ConfigurationError, match='train_dataloader.dataset .*nowhere'):
        next(browse(config, 'train', [0]))
