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
from .loading import part_of_vit


class MixedBatch(NamedTuple):
    """Normalised images and what mixing made of them, in compose mode."""
    clean: Tensor  # (B, C, H, W)
    mixed: Tensor  # (B / n, C, H, W)
    mix_mask: Tensor  # (B / n, L) int64
    num_sources: int  # n


def sample_images(dataloader: DataLoader, num_images: int, seed: int) -> Tensor:
    """Random images of a data set, the same at every call: ``(num_images, C, H, W)``.

    As the data set gives them; fewer if it is smaller. Not the first ones: folders are
    sorted by class, and images of one class alone are mixed much harder than the
    training data is. Augmentation starts from ``seed`` too, and the global generators
    are left as they were.
    """
    dataset: BaseDataset = dataloader.dataset
    num_images = min(num_images, len(dataset))
    indices = random.Random(seed).sample(range(len(dataset)), num_images)
    with own_random_numbers(seed):
        samples = [dataset[i] for i in indices]
    return default_collate([sample['inputs'] for sample in samples])


def mix_for_probing(model: BaseModel, images: Tensor, seed: int) -> MixedBatch:
    """Normalise images and mix them, with the same masks of a seed at every call.

    Images are ``(B, C, H, W)`` as the data set gives them; those beyond the last whole
    group are left out. The mixing ratio is the model's own, 0.25 for models that do not
    mix. The batch is on the device of the model.

    Raises:
        ConfigurationError: If there are fewer images than a group holds.
    """
    num_sources = sources_of(model)
    num_groups = len(images) // num_sources
    if num_groups < 1:
        raise ConfigurationError(
            f'Mixing needs at least {num_sources} images (1 / mix_ratio), but '
            f'there are {len(images)}.')
    clean = model.data_preprocessor(dict(
        inputs=images[:num_groups * num_sources], data_samples=None))['inputs']
    patch_size = patch_size_of(model.backbone)
    rows, columns = patch_grid(clean.shape[-2:], patch_size)
    # Drawn on the CPU: the same masks whatever the device.
    generator = torch.Generator().manual_seed(seed)
    mix_mask = draw_mix_masks(num_groups, rows * columns, num_sources,
                              generator=generator).to(clean.device)
    mixed = mix_images(clean, mix_mask, num_sources, patch_size)
    return MixedBatch(clean, mixed, mix_mask, num_sources)


def sources_of(model: BaseModel) -> int:
    """Images in a mix: the model's own number, 4 for models that do not mix."""
    return getattr(model.data_preprocessor, 'num_sources', num_sources_of(0.25))


def patch_size_of(backbone: BaseModule) -> int:
    """``P`` of a ViT, from its patch embedding."""
    return part_of_vit(backbone, 'patch_embed.projection').kernel_size[0]
