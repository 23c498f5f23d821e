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


def mae_config(arch=ARCH, img_size=32, patch_size=8):
    """Config of mmpretrain's MAE of the same size, without a preprocessor."""
    return dict(
        type='mmpretrain.MAE',
        backbone=dict(type='mmpretrain.MAEViT', arch=arch, img_size=img_size,
                      patch_size=patch_size),
        neck=dict(type='mmpretrain.MAEPretrainDecoder', patch_size=patch_size,
                  num_patches=(img_size // patch_size)**2, embed_dim=arch['embed_dims'],
                  decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2),
        head=dict(type='mmpretrain.MAEPretrainHead', patch_size=patch_size,
                  loss=dict(type='PixelReconstructionLoss', criterion='L2')))


def mae():
    """The model of :func:`mae_config`, with random weights."""
    return randomize(MODELS.build(mae_config()))
