"""Four strides from a ViT, in mmseg's and mmdet's places for a neck."""
import pytest
import torch
from mmengine.registry import DefaultScope, MODELS

from mixedae_mm.utils.errors import ConfigurationError
from small_vit import backbone


def pyramid(**options):
    return MODELS.build(
        dict(dict(type='ViTFeaturePyramid', in_channels=32), **options))


def maps(side=6, channels=32, number=4):
    return tuple(torch.randn(2, channels, side, 8) for _ in range(number))


@pytest.mark.parametrize('patch_size', [4, 8, 12, 14, 16, 28, 32])
def test_strides(patch_size):
    """A map of stride P and side s covers s * P pixels at every level."""
    levels = pyramid(patch_size=patch_size)(maps(side=8))
    assert [level.shape for level in levels] == [
        (2, 32, *[8 * patch_size // stride] * 2) for stride in (4, 8, 16, 32)]


def test_levels_are_beits():
    neck = pyramid().eval()
    names = [[type(m).__name__ for m in level.modules()][1:] or
             type(level).__name__ for level in neck.levels]
    assert names == [
        ['ConvTranspose2d', 'SyncBatchNorm', 'GELU', 'ConvTranspose2d'],
        ['ConvTranspose2d'], 'Identity', 'MaxPool2d'
    ]
    inputs = maps()
    levels = neck(inputs)
    assert torch.equal(levels[2], inputs[2])
    assert levels[3][1, 5, 0, 1] == inputs[3][1, 5, :2, 2:4].max()
    # A transposed convolution of stride 2 writes each pixel as a 2 x 2 block.
    convolution = neck.levels[1][0]
    block = torch.einsum('c,cdij->dij', inputs[1][0, :, 3, 4],
                         convolution.weight) + convolution.bias[:, None, None]
    torch.testing.assert_close(levels[1][0, :, 6:8, 8:10], block)


def test_levels_are_mmsegs():
    """mmseg's pyramid for its own BEiT and MAE, with the same weights."""
    feature2pyramid = pytest.importorskip('mmseg.models').Feature2Pyramid
    theirs, ours = feature2pyramid(32).eval(), pyramid().eval()
    theirs.upsample_4x.load_state_dict(ours.levels[0].state_dict())
    theirs.upsample_2x.load_state_dict(ours.levels[1].state_dict())
    inputs = maps()
    for got, expected in zip(ours(inputs), theirs(inputs)):
        torch.testing.assert_close(got, expected)


def test_every_level_trains_on_one_process():
    """The default norm too, which synchronises where there are several."""
    neck = pyramid().train()
    loss = sum(level.square().mean() for level in neck(maps()))
    loss.backward()
    assert all(p.grad.abs().sum() > 0 for p in neck.parameters())


@pytest.mark.parametrize('patch_size, features, message', [
    *[(16, maps(number=number), f'4 levels from as many maps, but got {number}')
      for number in (0, 1, 3, 5)],
    # An image that is smaller than the last stride.
    *[(patch, maps(side=cells),
       f'{8 * patch} x {cells * patch} pixels.*at least {(cells + 1) * patch}')
      for patch, cells in [(8, 3), (14, 2), (16, 1)]],
    (16, maps(channels=16), r'\(B, 32, H, W\), but got \(2, 16, 6, 8\)'),
    (16, [torch.zeros(2, 32)] * 4, "needs out_type='featmap'"),
    *[(patch, maps(), rf'patch_size .* is {patch}, .* \[4, 32\]')
      for patch in (3, 33, 14.5)],
])
def test_what_is_refused(patch_size, features, message):
    with pytest.raises(ConfigurationError, match=message):
        pyramid(patch_size=patch_size)(features)


@pytest.mark.parametrize('patch_size', [12, 14, 28])
def test_features_stay_at_their_pixels(patch_size):
    """A map of the horizontal position of its patches tells that of every cell."""
    neck = pyramid(patch_size=patch_size)
    stride = 32 if patch_size == 28 else 16
    neck.levels = torch.nn.ModuleList([torch.nn.Identity()] * 4)
    middles = (torch.arange(37.) + .5) * patch_size  # of 518 pixels for 14
    for level in neck([middles.expand(1, 32, 37, 37)] * 4):
        expected = (torch.arange(37 * patch_size // stride) + .5) * stride
        assert level.shape[-1] == len(expected)
        torch.testing.assert_close(level[0, 0, 0], expected)


def test_before_an_fpn_in_a_detectors_list_of_necks():
    pytest.importorskip('mmdet.models')
    from mmdet.registry import MODELS as DETECTOR_PARTS
    with DefaultScope.overwrite_default_scope('mmdet'):  # as its configs say
        neck = DETECTOR_PARTS.build([
            dict(type='ViTFeaturePyramid', in_channels=32, patch_size=8),
            dict(type='FPN', in_channels=[32] * 4, out_channels=16, num_outs=5)
        ])
    levels = neck(backbone(out_indices=(0, 1, 2, 3))(torch.randn(1, 3, 64, 96)))
    assert [tuple(level.shape[1:]) for level in levels] == [
        *[(16, 64 // s, 96 // s) for s in (4, 8, 16, 32)], (16, 1, 2)]
