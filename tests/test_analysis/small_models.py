"""Models of a few thousand parameters, for the tests of this folder."""
import torch
from mmengine.registry import MODELS

import mixedae_mm  # noqa: F401

ARCH = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=32)
PATCH_SIZE = 4


def vit(kind='MixedAEViT', **kwargs):
    """A ViT on 16 x 16 pixels (16 patches) with random weights."""
    settings = dict(
        type=kind, arch=ARCH, img_size=16, patch_size=PATCH_SIZE,
        out_type='raw')
    if kind != 'MixedAEViT':
        settings['type'] = f'mmpretrain.{kind}'
    backbone = randomised(MODELS.build({**settings, **kwargs}))
    backbone.eval()  # returns nothing in mmpretrain
    return backbone


def mixedae(mix_ratio=0.25, mode='compose', backbone=None, **parts):
    """A MixedAE on 16 x 16 pixels (16 patches) with random weights."""
    model = dict(
        type='MixedAE',
        data_preprocessor=dict(mix_ratio=mix_ratio, mode=mode),
        backbone=dict(
            type='MixedAEViT',
            arch=ARCH,
            img_size=16,
            patch_size=PATCH_SIZE,
            **(backbone or {})),
        neck=dict(
            type='MixedAEDecoder',
            decoder_embed_dim=16,
            decoder_depth=1,
            decoder_num_heads=2),
        head=dict(type='MixedAEPretrainHead'))
    return randomised(MODELS.build({**model, **parts}))


def randomised(model):
    """Fill every parameter, without the log lines of ``init_weights``."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return model
