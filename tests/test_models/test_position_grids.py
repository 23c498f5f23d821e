"""Positions belong to a patch grid, which their number does not tell."""
import pytest
import torch
from mmengine.runner import load_checkpoint
from mmpretrain.models.utils import resize_pos_embed
from torch._subclasses import FakeTensorMode

from mixedae_mm.models.checkpoint_loading import load_pretrained, load_source
from mixedae_mm.models.checkpoint_shapes import _computed
from mixedae_mm.models.checkpoint_source import read_source
from mixedae_mm.models.layers.position_embedding import (SinCosTable, recognize_sincos,
                                                         sincos_position_embedding)
from mixedae_mm.models.layers.relative_position_bias import TABLE, resize_table
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.machine import pytorch_is
from small_vit import backbone, mixedae, randomize, under

WIDE, SQUARE = (16, 64), 32  # 2 x 8 and 4 x 4 patches of 8 pixels


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'a.pth')


def save(path, weights, **meta):
    """As mmengine does, but without what notes the grid."""
    torch.save(dict(state_dict=dict(weights), meta=meta), path)


def pretrained(img_size, columns_first=False):
    """A pre-training with its fixed positions, the rest random."""
    model = mixedae(img_size=img_size)
    for positions in (model.backbone.pos_embed, model.neck.decoder_pos_embed):
        positions.data = sincos_position_embedding(model.neck.grid, 32, columns_first)
    return model


def change(name, source, target):
    return '{} {}x{} -> {}x{}'.format(name, *source, *target)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize('columns_first', [False, True])
@pytest.mark.parametrize('grid', [(2, 8), (8, 2), (4, 4), (1, 16)])
def test_sincos_positions_tell_their_grid(grid, columns_first, dtype):
    table = sincos_position_embedding(grid, 32, columns_first).to(dtype)
    assert recognize_sincos(table[:, 1:]) == (grid, columns_first)
    assert recognize_sincos(torch.randn(1, 16, 32)) is None


@pytest.mark.skipif(not pytorch_is('2.4'),
                    reason='PyTorch 2.1 needs a GPU for fake tensors of one')
def test_weights_on_a_gpu_meet_no_table_on_the_cpu(monkeypatch):
    """mmengine resumes with a checkpoint that it has read onto the GPU."""

    def same_device(one, other, **tolerance):
        return (one + other).device is None  # fake tensors have no values

    monkeypatch.setattr(torch, 'allclose', same_device)
    with FakeTensorMode():
        positions = torch.empty(1, 17, 32, device='cuda:0', dtype=torch.float16)
        assert recognize_sincos(positions[:, 1:]) is None
        resized = _computed(positions, SinCosTable((4, 4), False), (2, 8))
    assert (resized.device, resized.dtype) == (positions.device, positions.dtype)


@pytest.mark.parametrize('source, target', [
    (WIDE, SQUARE), (SQUARE, WIDE), ((128, 32), SQUARE), (SQUARE, (64, 32)),
    (SQUARE, (30, 50))])  # 4 x 7, the last of them incomplete
def test_the_grid_decides_not_the_number(path, source, target):
    model = pretrained(source)
    save(path, model.state_dict())
    vit = backbone(img_size=target)
    report = load_pretrained(vit, path)
    grids = model.neck.grid, tuple(vit.patch_resolution)
    torch.testing.assert_close(
        vit.pos_embed.data, resize_pos_embed(model.backbone.pos_embed, *grids))
    assert report.resized == [change('pos_embed', *grids)]


@pytest.mark.parametrize('columns_first', [False, True])
@pytest.mark.parametrize('target', [SQUARE, (32, 64)])
def test_fixed_positions_are_computed(path, target, columns_first):
    """In encoder and decoder, as mmpretrain orders them and as Meta does."""
    save(path, pretrained(WIDE, columns_first).state_dict())
    other = pretrained(target)
    report = load_pretrained(other, path)
    wanted = sincos_position_embedding(other.neck.grid, 32, columns_first)
    torch.testing.assert_close(other.backbone.pos_embed.data, wanted)
    torch.testing.assert_close(other.neck.decoder_pos_embed.data, wanted)
    assert report.resized == [change(name, (2, 8), other.neck.grid)
                              for name in ('pos_embed', 'decoder_pos_embed')]


@pytest.mark.parametrize('how', ['said by the weights', 'said by the config'])
@pytest.mark.parametrize('source, target', [
    (WIDE, SQUARE), (SQUARE, WIDE), (WIDE, (64, 16)), ((24, 40), (40, 24))])
def test_learnt_positions_of_a_grid_that_is_known(path, how, source, target):
    model = randomize(backbone(img_size=source))
    if how == 'said by the weights':
        torch.save(model.state_dict(), path)
    else:
        save(path, under('backbone.', model.state_dict()),
             cfg=f'model = dict(backbone=dict(img_size={source}, patch_size=8))')
    vit = backbone(img_size=target)
    load_pretrained(vit, path)
    torch.testing.assert_close(
        vit.pos_embed, resize_pos_embed(
            model.pos_embed, model.patch_resolution, vit.patch_resolution))


# Every way in has the same rule for a grid that is not known.
WAYS = {
    'init_cfg': lambda vit, path: load_pretrained(vit, path),
    'load_from': lambda vit, path: load_source(
        torch.nn.ModuleDict(dict(backbone=vit)), read_source(path)),
    "mmengine's load_checkpoint": lambda vit, path: load_checkpoint(vit, path),
    "PyTorch's load_state_dict": lambda vit, path: vit.load_state_dict(
        torch.load(path)['state_dict']),
}


@pytest.mark.parametrize('way', WAYS)
def test_learnt_positions_of_a_grid_that_is_not_known(path, way):
    weights = randomize(backbone(img_size=WIDE)).state_dict()
    save(path, weights)
    with pytest.raises(ConfigurationError, match='16 patches.*2x8.*4x4.*grid='):
        WAYS[way](backbone(img_size=WIDE), path)
    weights['pos_embed'] = torch.randn(1, 1 + 15, 32)
    save(path, weights)
    with pytest.raises(ConfigurationError, match='15 patches.*not as a square.*grid='):
        WAYS[way](backbone(), path)


def test_the_grid_is_given(path):
    weights = randomize(backbone(img_size=WIDE)).state_dict()
    save(path, weights)
    vit = backbone(img_size=WIDE)
    load_pretrained(vit, path, grid=(2, 8))
    assert torch.equal(vit.pos_embed, weights['pos_embed'])
    load_pretrained(vit, path, grid=(4, 4))
    torch.testing.assert_close(
        vit.pos_embed.data, resize_pos_embed(weights['pos_embed'], (4, 4), (2, 8)))
    with pytest.raises(ConfigurationError, match='grid=.3, 8. are 24.*17 positions'):
        load_pretrained(vit, path, grid=(3, 8))


@pytest.mark.parametrize('out_type', ['featmap', 'avg_featmap', 'raw'])
@pytest.mark.parametrize('img_size', [80, (80, 160), (16, 64)])
def test_without_a_cls_token_all_comes_back(path, img_size, out_type):
    options = dict(with_cls_token=False, img_size=img_size, out_type=out_type,
                   relative_position_bias=True)
    vit = randomize(backbone(**options))
    torch.save(vit.state_dict(), path)
    for load in (lambda other: load_pretrained(other, path),
                 lambda other: other.load_state_dict(vit.state_dict())):
        other = backbone(**options)
        load(other)
        assert all(torch.equal(value, vit.state_dict()[name])
                   for name, value in other.state_dict().items())


def tables(vit):
    return [getattr(layer.attn.rel_pos_bias, TABLE) for layer in vit.layers]


def test_from_cls_token_to_none_and_back(path):
    with_cls = randomize(backbone(relative_position_bias=True))
    torch.save(with_cls.state_dict(), path)
    without = backbone(relative_position_bias=True, with_cls_token=False)
    assert 'cls_token' in load_pretrained(without, path).ignored
    assert torch.equal(without.pos_embed, with_cls.pos_embed[:, 1:])
    for mine, theirs in zip(tables(without), tables(with_cls)):
        assert torch.equal(mine, theirs[:-3])

    torch.save(without.state_dict(), path)
    with pytest.raises(ConfigurationError, match='with_cls_token=False.*cls_token'):
        load_pretrained(with_cls, path)


def test_bias_tables_belong_to_a_grid_too(path):
    """2 x 8 and 8 x 2 patches have as many offsets."""
    wide = randomize(backbone(img_size=WIDE, relative_position_bias=True))
    torch.save(wide.state_dict(), path)
    tall = backbone(img_size=(64, 16), relative_position_bias=True)
    report = load_pretrained(tall, path)
    assert len(report.resized) == 1 + 4 and report.new == []
    for mine, theirs in zip(tables(tall), tables(wide)):
        torch.testing.assert_close(mine, resize_table(theirs, (2, 8), (8, 2)))
