"""Positions belong to a patch grid, which their number does not tell."""
import pytest
import torch
from mmpretrain.models.utils import resize_pos_embed

from mixedae_mm.models.checkpoint_loading import load_pretrained
from mixedae_mm.models.layers.position_embedding import (recognize_sincos,
                                                         sincos_position_embedding)
from mixedae_mm.models.layers.relative_position_bias import TABLE, resize_table
from mixedae_mm.utils.errors import ConfigurationError
from small_vit import backbone, mixedae, randomize

WIDE, SQUARE = (16, 64), 32  # 2 x 8 and 4 x 4 patches of 8 pixels


def saved(path, weights, **meta):
    torch.save(dict(state_dict=dict(weights), meta=meta), path)
    return str(path)


def pretrained(img_size):
    """A pre-training with its fixed positions, the rest random."""
    model, _ = mixedae(img_size=img_size)
    backbone, neck = model.backbone, model.neck
    backbone.pos_embed.data = sincos_position_embedding(backbone.patch_resolution, 32)
    neck.decoder_pos_embed.data = sincos_position_embedding(neck.grid, 32)
    return model


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('columns_first', [False, True])
@pytest.mark.parametrize('grid', [(2, 8), (8, 2), (4, 4), (1, 16)])
def test_sincos_positions_tell_their_grid(grid, columns_first, dtype):
    table = sincos_position_embedding(grid, 32, columns_first).to(dtype)
    assert recognize_sincos(table[:, 1:]) == (grid, columns_first)
    assert recognize_sincos(torch.randn(1, 16, 32)) is None


@pytest.mark.parametrize('source, target', [
    (WIDE, SQUARE), (SQUARE, WIDE), ((128, 32), SQUARE), (SQUARE, (64, 32))])
def test_the_grid_decides_not_the_number(tmp_path, source, target):
    model = pretrained(source)
    path = saved(tmp_path / 'a.pth', model.state_dict())
    vit = backbone(img_size=target)
    report = load_pretrained(vit, path)
    grids = [tuple(part.patch_resolution) for part in (model.backbone, vit)]
    torch.testing.assert_close(
        vit.pos_embed.data, resize_pos_embed(model.backbone.pos_embed, *grids))
    assert report.resized == [
        'pos_embed {}x{} -> {}x{}'.format(*grids[0], *grids[1])]


@pytest.mark.parametrize('columns_first', [False, True])
@pytest.mark.parametrize('target', [SQUARE, (32, 64)])
def test_fixed_positions_are_computed(tmp_path, target, columns_first):
    """In encoder and decoder, as mmpretrain orders them and as Meta does."""
    model = pretrained(WIDE)
    for positions in (model.backbone.pos_embed, model.neck.decoder_pos_embed):
        positions.data = sincos_position_embedding((2, 8), 32, columns_first)
    path = saved(tmp_path / 'a.pth', model.state_dict())
    other = pretrained(target)
    report = load_pretrained(other, path)
    wanted = sincos_position_embedding(other.neck.grid, 32, columns_first)
    torch.testing.assert_close(other.backbone.pos_embed.data, wanted)
    torch.testing.assert_close(other.neck.decoder_pos_embed.data, wanted)
    rows, columns = other.neck.grid
    assert report.resized == [
        f'pos_embed 2x8 -> {rows}x{columns}',
        f'decoder_pos_embed 2x8 -> {rows}x{columns}']


@pytest.mark.parametrize('how', ['said by the weights', 'said by the config'])
@pytest.mark.parametrize('source, target', [
    (WIDE, SQUARE), (SQUARE, WIDE), (WIDE, (64, 16)), ((24, 40), (40, 24))])
def test_learnt_positions_of_a_grid_that_is_known(tmp_path, how, source, target):
    model = randomize(backbone(img_size=source))
    weights = {f'backbone.{k}': v for k, v in model.state_dict().items()}
    path = tmp_path / 'a.pth'
    if how == 'said by the weights':
        torch.save(model.state_dict(), path)
    else:
        saved(path, weights, cfg='model = dict(backbone=dict('
              f'img_size={source}, patch_size=8))')
    vit = backbone(img_size=target)
    load_pretrained(vit, str(path))
    torch.testing.assert_close(
        vit.pos_embed, resize_pos_embed(
            model.pos_embed, model.patch_resolution, vit.patch_resolution))


def test_learnt_positions_of_a_grid_that_is_not_known(tmp_path):
    weights = randomize(backbone(img_size=WIDE)).state_dict()
    path = saved(tmp_path / 'a.pth', weights)
    with pytest.raises(ConfigurationError, match='16 positions.*2x8.*4x4.*grid='):
        load_pretrained(backbone(img_size=WIDE), path)
    vit = backbone(img_size=WIDE)
    load_pretrained(vit, path, grid=(2, 8))
    assert torch.equal(vit.pos_embed, weights['pos_embed'])
    load_pretrained(vit, path, grid=(4, 4))
    torch.testing.assert_close(
        vit.pos_embed.data, resize_pos_embed(weights['pos_embed'], (4, 4), (2, 8)))

    with pytest.raises(ConfigurationError, match='grid=.3, 8. are 24.*17 positions'):
        load_pretrained(vit, path, grid=(3, 8))

    weights['pos_embed'] = torch.randn(1, 1 + 15, 32)
    path = saved(tmp_path / 'b.pth', weights)
    with pytest.raises(ConfigurationError, match='15 patches.*not a square.*grid='):
        load_pretrained(backbone(), path)


def test_pytorchs_own_loading_keeps_to_the_grid():
    """And a state dict of plain tensors comes back as it was."""
    wide, square = randomize(backbone(img_size=WIDE)), backbone(img_size=SQUARE)
    square.load_state_dict(wide.state_dict())
    torch.testing.assert_close(
        square.pos_embed.data,
        resize_pos_embed(wide.pos_embed.data, (2, 8), (4, 4)))
    again = backbone(img_size=WIDE)
    again.load_state_dict(dict(wide.state_dict()))
    assert torch.equal(again.pos_embed, wide.pos_embed)


@pytest.mark.parametrize('out_type', ['featmap', 'avg_featmap', 'raw'])
@pytest.mark.parametrize('img_size', [80, (80, 160), (16, 64)])
def test_without_a_cls_token_all_comes_back(tmp_path, img_size, out_type):
    options = dict(with_cls_token=False, img_size=img_size, out_type=out_type,
                   relative_position_bias=True)
    vit = randomize(backbone(**options))
    torch.save(vit.state_dict(), tmp_path / 'a.pth')
    for load in (lambda other: load_pretrained(other, str(tmp_path / 'a.pth')),
                 lambda other: other.load_state_dict(vit.state_dict())):
        other = backbone(**options)
        load(other)
        assert all(torch.equal(value, vit.state_dict()[name])
                   for name, value in other.state_dict().items())


def test_from_cls_token_to_none_and_back(tmp_path):
    with_cls = randomize(backbone(relative_position_bias=True))
    path = str(tmp_path / 'a.pth')
    torch.save(with_cls.state_dict(), path)
    without = backbone(relative_position_bias=True, with_cls_token=False)
    report = load_pretrained(without, path)
    assert 'cls_token' in report.ignored
    assert torch.equal(without.pos_embed, with_cls.pos_embed[:, 1:])
    for mine, theirs in zip(without.layers, with_cls.layers):
        assert torch.equal(getattr(mine.attn.rel_pos_bias, TABLE),
                           getattr(theirs.attn.rel_pos_bias, TABLE)[:-3])

    torch.save(without.state_dict(), path)
    with pytest.raises(ConfigurationError, match='with_cls_token=False.*cls_token'):
        load_pretrained(with_cls, path)


def test_bias_tables_belong_to_a_grid_too(tmp_path):
    """2 x 8 and 8 x 2 patches have as many offsets."""
    wide = randomize(backbone(img_size=WIDE, relative_position_bias=True))
    torch.save(wide.state_dict(), tmp_path / 'a.pth')
    tall = backbone(img_size=(64, 16), relative_position_bias=True)
    load_pretrained(tall, str(tmp_path / 'a.pth'))
    for mine, theirs in zip(tall.layers, wide.layers):
        torch.testing.assert_close(
            getattr(mine.attn.rel_pos_bias, TABLE),
            resize_table(getattr(theirs.attn.rel_pos_bias, TABLE), (2, 8), (8, 2)))
