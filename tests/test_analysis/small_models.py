"""Models of a few thousand parameters on 16 x 16 pixels, which are 16 patches."""
import torch
from mmengine.registry import MODELS
from mmpretrain.models import MAEViT

import mixedae_mm  # noqa: F401

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
PATCH_SIZE = 4
VIT = dict(arch=ARCH, img_size=16, patch_size=PATCH_SIZE)
DECODER = dict(decoder_embed_dim=16, decoder_depth=1, decoder_num_heads=2)
MODEL = dict(
    type='MixedAE', data_preprocessor=dict(type='MixedAEDataPreprocessor'),
    backbone=dict(type='MixedAEViT', **VIT),
    neck=dict(type='MixedAEDecoder', **DECODER),
    head=dict(type='MixedAEPretrainHead'))
MAE = dict(
    type='mmpretrain.MAE',
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375]),
    backbone=dict(type='mmpretrain.MAEViT', **VIT),
    neck=dict(type='mmpretrain.MAEPretrainDecoder', num_patches=16,
              patch_size=PATCH_SIZE, embed_dim=16, **DECODER),
    head=dict(type='mmpretrain.MAEPretrainHead', norm_pix=True, patch_size=PATCH_SIZE,
              loss=dict(type='PixelReconstructionLoss', criterion='L2')))


def built(config):
    """The model, in evaluation mode, with random values in every parameter."""
    model = MODELS.build(config)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.eval()  # returns nothing in mmpretrain
    return model


def vit(kind='MixedAEViT', **options):
    scope = '' if kind == 'MixedAEViT' else 'mmpretrain.'
    return built({'type': scope + kind, 'out_type': 'raw', **VIT, **options})


def mixedae(mix_ratio=0.25, mode='compose', backbone=None, **parts):
    return built({
        **MODEL, 'data_preprocessor': dict(mix_ratio=mix_ratio, mode=mode),
        'backbone': {**MODEL['backbone'], **(backbone or {})}, **parts})


def whole(backbone, images):
    """Run a ViT on whole images; MAEViT hides patches unless it is told."""
    options = dict(mask=None) if isinstance(backbone, MAEViT) else {}
    with torch.no_grad():
        return backbone(images, **options)
