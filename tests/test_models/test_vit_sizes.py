"""Sizes by name, and the whole way of a ViT with patches of 14 pixels."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

from mixedae_mm.interop.convert import convert
from mixedae_mm.interop.reading import read_vit
from mixedae_mm.launch.entry import adapt_to_cpu
from mixedae_mm.models import MixedAEViT
from mixedae_mm.models.checkpoint_loading import load_pretrained
from mixedae_mm.models.checkpoint_names import to_mm_names
from mixedae_mm.models.checkpoint_source import read_source
from mixedae_mm.models.vit_sizes import SIZES
from small_vit import backbone, config, randomize

DEMO = Path(__file__).parents[2] / 'configs/demo/transfer'


@pytest.mark.parametrize('name', SIZES)
def test_a_size_is_the_literatures(name):
    """Names and shapes are those of timm's model of the same name."""
    timm = pytest.importorskip('timm')
    size = SIZES[name]
    for patch in size.patches:
        with torch.device('meta'):
            ours = MixedAEViT(name, patch_size=patch, out_type='raw')
            theirs = timm.create_model(f'vit_{size.timm}_patch{patch}_224',
                                       num_classes=0)
        weights = to_mm_names(theirs.state_dict(), 'timm', '')
        assert {key: value.shape for key, value in weights.items()} == {
            f'backbone.{key}': value.shape for key, value in ours.state_dict().items()}
        assert ours.layers[0].attn.num_heads == theirs.blocks[0].attn.num_heads


@pytest.mark.parametrize('patch, grid', [(8, 28), (14, 16), (16, 14), (32, 7)])
def test_every_patch_size_mixes(patch, grid):
    """Also an odd grid, whose 49 patches four images cannot share equally."""
    model = MODELS.build(config(
        backbone=dict(img_size=224, patch_size=patch), neck=dict(decoder_embed_dim=16)))
    model.init_weights()
    images = torch.randint(0, 256, (4, 3, 224, 224), dtype=torch.uint8)
    batch = model.data_preprocessor(dict(inputs=list(images), data_samples=[]), True)
    shares = batch['inputs']['mix_mask'].flatten().bincount(minlength=4)
    assert shares.sum() == grid**2 and shares.max() - shares.min() <= 1
    assert model.backbone.topks == [None] + [grid**2 // 4] * 3
    loss = sum(model.loss(**batch).values())
    loss.backward()
    assert loss.isfinite()


@pytest.fixture(scope='module')
def pretrained(tmp_path_factory):
    """A checkpoint of pre-training with patches of 14, and its model."""
    path = tmp_path_factory.mktemp('patch14') / 'mixedae.pth'
    model = config(backbone=dict(
        img_size=56, patch_size=14, arch=Config.fromfile(
            DEMO / 'finetune_vit-tiny_objects.py').model.backbone.arch.to_dict()))
    built = randomize(MODELS.build(model))
    torch.save(dict(state_dict=built.state_dict(),
                    meta=dict(cfg=Config(dict(model=model)).pretty_text)), path)
    return path, built


@pytest.mark.parametrize('to', ['timm', 'hf', 'hf-mae', 'mae', 'mm'])
def test_there_and_back(pretrained, tmp_path, to):
    path, model = pretrained
    convert(path, tmp_path / 'out', to)
    convert(tmp_path / 'out', tmp_path / 'back.pth', 'mm', heads=4, decoder_heads=2)
    vit = read_vit(tmp_path / 'back.pth')
    assert (vit.description.patch_size, vit.description.img_size) == (14, (56, 56))
    for name, value in vit.weights.items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_segmentor(pretrained):
    """Images of 128 pixels are ten patches of 14, the last of them padded."""
    pytest.importorskip('mmseg.models')
    cfg = Config.fromfile(DEMO / 'upernet_vit-tiny_scenes.py')
    cfg.launcher = 'none'
    adapt_to_cpu(cfg)
    cfg.merge_from_dict({
        'model.backbone.patch_size': 14, 'model.backbone.img_size': 56,
        'model.backbone.init_cfg.checkpoint': str(pretrained[0]),
        'model.neck.patch_size': 14})
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
    model.init_weights()
    assert torch.equal(model.backbone.layers[3].attn.qkv.weight,
                       pretrained[1].backbone.layers[3].attn.qkv.weight)
    levels = model.extract_feat(torch.randn(2, 3, 128, 128))
    assert [tuple(level.shape[-2:]) for level in levels] == [
        (128 // stride, 128 // stride) for stride in (4, 8, 16, 32)]


def test_the_grid_of_padded_images_is_read_off_the_config(tmp_path):
    """50 x 100 pixels are 4 x 8 patches of 14, which mmpretrain pads."""
    vit = randomize(backbone(img_size=(50, 100), patch_size=14))
    text = Config(dict(model=dict(backbone=dict(
        type='VisionTransformer', img_size=(50, 100), patch_size=14)))).pretty_text
    path = str(tmp_path / 'vit.pth')
    torch.save(dict(state_dict=dict(vit.state_dict()), meta=dict(cfg=text)), path)
    assert read_source(path).grids == {'backbone': (4, 8)}
    load_pretrained(backbone(img_size=56, patch_size=14), path)
