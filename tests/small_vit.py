"""A ViT small enough for tests, and checkpoints that hold it."""
import torch
from mmengine.registry import MODELS

ARCH = dict(
    embed_dims=32, num_layers=4, num_heads=2, feedforward_channels=64)
NUM_TENSORS = 2 + 2 + 12 * 4 + 2  # embeddings, patches, layers, last norm


def backbone(**options):
    """A plain ``MixedAEViT`` for transfer, not initialised."""
    config = dict(
        type='MixedAEViT', arch=ARCH, img_size=32, patch_size=8,
        out_type='featmap')
    return MODELS.build(dict(config, **options))


def under(prefix, weights, instead_of=''):
    """The weights whose names begin so, with another prefix."""
    return {prefix + name[len(instead_of):]: value for name, value in weights.items()
            if name.startswith(instead_of)}


def randomize(module, seed=7):
    """Give every parameter, also those that start at zero, random values."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.parameters():
        parameter.data.normal_(std=0.1, generator=generator)
    return module


def config(**options):
    """Config of a small MixedAE, with options by part; None leaves a part out."""
    parts = dict(
        type='MixedAE',
        backbone=dict(type='MixedAEViT', arch=ARCH, img_size=32, patch_size=8,
                      out_type='raw'),
        neck=dict(type='MixedAEDecoder', decoder_embed_dim=32, decoder_depth=1,
                  decoder_num_heads=2),
        head=dict(type='MixedAEPretrainHead', proj_dim=8),
        data_preprocessor=dict())
    for part, values in options.items():
        parts[part] = None if values is None else dict(parts[part], **values)
    return parts


def mixedae(**backbone_options):
    """The whole algorithm in pre-training, with random weights."""
    return randomize(MODELS.build(config(backbone=backbone_options)))


def mae():
    """mmpretrain's MAE of the same size, with random weights."""
    from mmpretrain.registry import MODELS as PRETRAIN_MODELS
    model = PRETRAIN_MODELS.build(
        dict(
            type='MAE',
            backbone=dict(
                type='MAEViT', arch=ARCH, img_size=32, patch_size=8),
            neck=dict(
                type='MAEPretrainDecoder',
                num_patches=16,
                patch_size=8,
                embed_dim=32,
                decoder_embed_dim=32,
                decoder_depth=1,
                decoder_num_heads=2),
            head=dict(
                type='MAEPretrainHead',
                patch_size=8,
                loss=dict(type='PixelReconstructionLoss', criterion='L2'))))
    return randomize(model)
