"""Panels show the images they say they show."""
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from mixedae_mm.analysis import draw_mixing_panel, figure_to_array, mixing_panel
from mixedae_mm.analysis.figures import draw_accuracy_per_layer, draw_attention
from mixedae_mm.analysis.panels import HIDDEN_GREY, source_colour
from mixedae_mm.mixing import draw_mix_masks, gather_hidden
from mixedae_mm.utils.errors import ConfigurationError
from small_models import PATCH_SIZE, mixedae


def a_group(num_sources):
    images = torch.randint(
        0, 256, (num_sources, 3, 16, 16), dtype=torch.uint8)
    return images, draw_mix_masks(1, 16, num_sources)


def shown_pixels(mask, num_sources):
    """(n, 1, H, W) bool: where the mixed sample shows source i."""
    pixels = mask.repeat_interleave(PATCH_SIZE, 0).repeat_interleave(
        PATCH_SIZE, 1)
    return torch.stack([pixels == i for i in range(num_sources)])[:, None]


@pytest.mark.parametrize('mode', ['compose', 'full'])
@pytest.mark.parametrize('mix_ratio', [0.5, 1 / 3, 0.25])
def test_pictures_equal_the_inputs_where_they_must(mix_ratio, mode):
    model = mixedae(mix_ratio, mode)
    num_sources = model.data_preprocessor.num_sources
    images, mix_mask = a_group(num_sources)
    panel = mixing_panel(model, images, mix_mask)
    clean = images / 255
    shown = shown_pixels(panel.mix_mask, num_sources)
    close = dict(atol=1e-6, rtol=0)

    assert torch.equal(panel.mix_mask.flatten(), mix_mask[0])
    torch.testing.assert_close(panel.clean, clean, **close)
    torch.testing.assert_close(panel.mixed, (clean * shown).sum(0), **close)
    torch.testing.assert_close(
        panel.unmixed, clean.where(shown, torch.tensor(HIDDEN_GREY)), **close)
    torch.testing.assert_close(panel.reconstructed.where(shown, clean), clean,
                               **close)
    assert not panel.reconstructed.allclose(clean, atol=0.1)
    assert 0 <= panel.reconstructed.min() <= panel.reconstructed.max() <= 1


@pytest.mark.parametrize('norm_pix', [True, False])
def test_perfect_prediction_gives_the_images_back(norm_pix, monkeypatch):
    model = mixedae(head=dict(type='MixedAEPretrainHead', norm_pix=norm_pix))
    images, mix_mask = a_group(4)
    clean = model.data_preprocessor(dict(inputs=images))['inputs']
    targets = gather_hidden(model.head.targets(clean)[None], mix_mask)
    monkeypatch.setattr(model.neck, 'forward', lambda *args: targets)
    panel = mixing_panel(model, images, mix_mask)
    torch.testing.assert_close(
        panel.reconstructed, images / 255, atol=1e-5, rtol=0)


@pytest.mark.parametrize('mix_ratio, with_decoder', [(0.25, True),
                                                     (0.5, False)])
def test_drawing(mix_ratio, with_decoder):
    model = mixedae(mix_ratio, **({} if with_decoder else dict(neck=None)))
    num_sources = model.data_preprocessor.num_sources
    panel = mixing_panel(model, *a_group(num_sources))
    assert (panel.reconstructed is not None) == with_decoder
    figure = draw_mixing_panel(panel, 'a title')
    rows = 3 if with_decoder else 2
    pictures = [axes.images[0].get_array() for axes in figure.get_axes()]
    assert len(pictures) == 2 + rows * num_sources
    mask_colours = torch.tensor(pictures[0])
    for i in range(num_sources):
        assert (mask_colours[panel.mix_mask == i].double() == torch.tensor(
            to_rgb(source_colour(i))).float().double()).all()
        assert (pictures[2 + i] == panel.clean[i].permute(1, 2,
                                                          0).numpy()).all()
    array = figure_to_array(figure)
    assert array.dtype.name == 'uint8' and array.shape[2] == 3
    assert len({tuple(pixel) for pixel in array.reshape(-1, 3)[::97]}) > 20


def test_names_are_no_formulas():
    name = r'$\frac$'
    figure = draw_mixing_panel(mixing_panel(mixedae(), *a_group(4)), name)
    maps = draw_attention([np.zeros((8, 8, 3))], {name: [np.ones((2, 2))]})
    for drawn in (figure, maps, draw_accuracy_per_layer({name: [30.]}, 25)):
        figure_to_array(drawn)  # a formula that cannot be read would fail


def test_what_is_no_group_is_refused():
    model = mixedae()
    images, mix_mask = a_group(4)
    for number in (3, 8):
        with pytest.raises(ConfigurationError, match=f'4 images, not {number}'):
            mixing_panel(model, images.repeat(2, 1, 1, 1)[:number], mix_mask)
    with pytest.raises(ConfigurationError, match='not MixedAEViT'):
        mixing_panel(model.backbone, images, mix_mask)


@pytest.mark.parametrize('count, channels, shown', [
    (1, None, [0, 0, 0]), (2, None, [0, 0, 0]), (4, None, [0, 1, 2]),
    (5, (4, 0, 2), [4, 0, 2])])
def test_other_channels_are_shown_by_their_own_range(count, channels, shown):
    mean, std = [1000. + i for i in range(count)], [200. + i for i in range(count)]
    model = mixedae(backbone=dict(in_channels=count), data_preprocessor=dict(
        mix_ratio=0.25, mean=mean, std=std))
    images = 1000 + 150 * torch.randn(4, count, 16, 16)
    mask = draw_mix_masks(1, 16, 4)
    panel = mixing_panel(model, images, mask, channels)
    by_range = [((images[:, i] - mean[i]) / std[i] / 5 + 0.5).clamp(0, 1)
                for i in shown]
    torch.testing.assert_close(panel.clean, torch.stack(by_range, 1))
    hidden = ~shown_pixels(panel.mix_mask, 4).expand_as(panel.unmixed)
    grey = panel.unmixed[hidden]
    torch.testing.assert_close(grey, torch.full_like(grey, HIDDEN_GREY))


@pytest.mark.parametrize('channels', [(0, 1), (0, 1, 4), (-1, 0, 1)])
def test_channels_that_do_not_exist_are_refused(channels):
    model = mixedae(backbone=dict(in_channels=4), data_preprocessor=dict(
        mix_ratio=0.25, mean=[0.] * 4, std=[1.] * 4))
    with pytest.raises(ConfigurationError, match='three numbers from 0 to 3'):
        mixing_panel(model, torch.rand(4, 4, 16, 16), draw_mix_masks(1, 16, 4),
                     channels)
