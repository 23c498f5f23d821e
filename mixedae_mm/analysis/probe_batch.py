"""A fixed batch of training images and masks to measure a model on."""
import random
from typing import NamedTuple

import torch
from mmengine.dataset import BaseDataset, default_collate
from mmengine.model import BaseModel, BaseModule
from torch import Tensor
from torch.utils.data import DataLoader

from ..mixing import draw_mix_masks, mix_images, num_sources_of, patch_grid
from ..utils.errors import ConfigurationError
from ..utils.random import own_random_numbers


class MixedBatch(NamedTuple):
    """Normalised images and what mixing made of them, in compose mode.

    Attributes:
        clean (Tensor): ``(B, C, H, W)``.
        mixed (Tensor): ``(B / n, C, H, W)``.
        mix_mask (Tensor): ``(B / n, L)`` int64.
        num_sources (int): ``n``.
    """
    clean: Tensor
    mixed: Tensor
    mix_mask: Tensor
    num_sources: int


def sample_images(dataloader: DataLoader, num_images: int,
                  seed: int) -> Tensor:
    """Random images of a data set, the same at every call.

    Not the first ones: folders are sorted by class, and images of one class
    alone are mixed much harder than the training data is. Augmentation starts
    from ``seed`` too, and the global generators are left as they were.

    Args:
        dataloader (DataLoader): Of training.
        num_images (int): How many; fewer if the data set is smaller.
        seed (int): Of choice and augmentation.

    Returns:
        Tensor: ``(num_images, C, H, W)`` as the data set gives them.
    """
    dataset: BaseDataset = dataloader.dataset
    num_images = min(num_images, len(dataset))
    indices = random.Random(seed).sample(range(len(dataset)), num_images)
    with own_random_numbers(seed):
        samples = [dataset[i] for i in indices]
    return default_collate([sample['inputs'] for sample in samples])


def mix_for_probing(model: BaseModel, images: Tensor, seed: int) -> MixedBatch:
    """Normalise images and mix them, with the same masks at every call.

    Args:
        model (BaseModel): With ``backbone`` and ``data_preprocessor``. The
            mixing ratio is the model's own, 0.25 for models that do not mix.
        images (Tensor): ``(B, C, H, W)`` as the data set gives them. Images
            beyond the last whole group are left out.
        seed (int): Of the masks.

    Returns:
        MixedBatch: On the device of the model.

    Raises:
        ConfigurationError: If there are fewer images than a group holds.
    """
    preprocessor = model.data_preprocessor
    num_sources = getattr(preprocessor, 'num_sources', num_sources_of(0.25))
    num_groups = len(images) // num_sources
    if num_groups < 1:
        raise ConfigurationError(
            f'Mixing needs at least {num_sources} images (1 / mix_ratio), but '
            f'there are {len(images)}.')
    images = images[:num_groups * num_sources]
    clean = preprocessor(dict(inputs=images, data_samples=None))['inputs']
    patch_size = patch_size_of(model.backbone)
    rows, columns = patch_grid(clean.shape[-2:], patch_size)
    # Drawn on the CPU: the same masks whatever the device.
    mix_mask = draw_mix_masks(
        num_groups,
        rows * columns,
        num_sources,
        generator=torch.Generator().manual_seed(seed)).to(clean.device)
    mixed = mix_images(clean, mix_mask, num_sources, patch_size)
    return MixedBatch(clean, mixed, mix_mask, num_sources)


def patch_size_of(backbone: BaseModule) -> int:
    """``P`` of a ViT, from its patch embedding."""
    return backbone.patch_embed.projection.kernel_size[0]
