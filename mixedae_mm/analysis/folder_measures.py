"""Measurements of a model on image files, with a progress bar."""
from itertools import islice
from typing import Iterator, Mapping, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor

from ..mixing import draw_mix_masks
from ..utils.errors import ConfigurationError
from ..utils.preprocessing import ImageSize
from ..utils.progress import with_progress
from ..utils.undisturbed import evaluating
from .attention_probe import cls_attention_maps, topk_sampling_accuracy
from .loading import (channels_of, image_size_of, in_order_of_training, load_images,
                      normalised_for)
from .panels import MixingPanel, as_rgb, mixing_panel, shown_channels
from .probe_batch import mix_for_probing, patch_size_of


def folder_topk_accuracy(model: BaseModel,
                         paths: Sequence[str],
                         topk: Optional[int] = None,
                         seed: int = 0,
                         batch_size: int = 64) -> Tuple[Tensor, int]:
    """TopK sampling accuracy of a model on image files.

    Args:
        model (BaseModel): With ``backbone`` and ``data_preprocessor``.
        paths (Sequence[str]): Images. They are mixed in this order, so it
            should be a random one.
        topk (int, optional): As in :func:`topk_sampling_accuracy`.
        seed (int): Of the masks.
        batch_size (int): Clean images per batch, at least one group.

    Returns:
        tuple[Tensor, int]: ``(num_layers,)`` float64, in [0, 1], and how many images
        were read.

    Raises:
        ConfigurationError: If there are fewer readable images than a group holds.
    """
    num_sources = getattr(model.data_preprocessor, 'num_sources', 4)
    batch_size = max(batch_size // num_sources, 1) * num_sources
    images = (image for _, image in with_progress(
        _images_for(model, paths), 'TopK accuracy', len(paths)))
    total, num_samples, used = torch.zeros((), dtype=torch.float64), 0, 0
    with evaluating(model):
        while group := list(islice(images, batch_size)):
            if len(group) < num_sources and num_samples:
                break  # the first group says so if it is not whole
            batch = mix_for_probing(
                model, in_order_of_training(model, torch.stack(group)),
                seed + num_samples)
            accuracy = topk_sampling_accuracy(
                model.backbone, batch.mixed, batch.mix_mask, topk)
            total = total + accuracy * len(batch.mixed)
            num_samples += len(batch.mixed)
            used += len(group) // num_sources * num_sources
    return total / num_samples, used


class AttentionMaps(NamedTuple):
    """Attention of several models on one image.

    Attributes:
        path (str): Of the image.
        image (np.ndarray): ``(H, W, 3)`` uint8, or float in [0, 1] where channels
            other than RGB are shown: what the models saw.
        maps (dict[str, np.ndarray]): Name of the model -> ``(rows,
            columns)``.
    """
    path: str
    image: np.ndarray
    maps: Mapping[str, np.ndarray]


def folder_attention_maps(models: Mapping[str, BaseModel],
                          paths: Sequence[str],
                          size: Optional[ImageSize] = None,
                          channels: Optional[Sequence[int]] = None
                          ) -> Iterator[AttentionMaps]:
    """CLS attention of one or more models on image files (Fig. 5).

    Args:
        models (Mapping[str, BaseModel]): Name -> model with ``backbone`` and
            ``data_preprocessor``.
        paths (Sequence[str]): Images.
        size (int | tuple[int, int], optional): Height and width of the crop
            that the models see. None keeps each image's own size, except for
            what exceeds whole patches.
        channels (sequence[int], optional): As in
            :func:`~mixedae_mm.analysis.panels.shown_channels`.

    Yields:
        AttentionMaps: One image.

    Raises:
        ConfigurationError: If the models take other numbers of channels.
    """
    counts = {name: channels_of(model) for name, model in models.items()}
    if len(set(counts.values())) > 1:
        raise ConfigurationError(
            'The models take images of different numbers of channels, so that they '
            f'cannot be compared: {counts}.')
    multiple = int(np.lcm.reduce(
        [patch_size_of(model.backbone) for model in models.values()]))
    images = load_images(
        paths, size, multiple_of=multiple, channels=next(iter(counts.values())))
    for path, image in with_progress(images, 'attention maps', len(paths)):
        maps = {}
        for name, model in models.items():
            with evaluating(model):
                normalised = normalised_for(model, image[None])
                maps[name] = cls_attention_maps(
                    model.backbone, normalised)[0].cpu().numpy()
        if shown_channels(len(image), model.data_preprocessor, channels):
            image = as_rgb(normalised, model.data_preprocessor, channels)[0]
        yield AttentionMaps(path, image.permute(1, 2, 0).numpy(), maps)


def folder_mixing_panels(model: BaseModel,
                         paths: Sequence[str],
                         seed: int = 0,
                         channels: Optional[Sequence[int]] = None
                         ) -> Iterator[MixingPanel]:
    """Mix and reconstruct image files, one group after the other.

    Args:
        model (BaseModel): ``MixedAE``.
        paths (Sequence[str]): Images; those beyond the last whole group are
            left out.
        seed (int): Of the masks.
        channels (sequence[int], optional): As in
            :func:`~mixedae_mm.analysis.panels.shown_channels`.

    Yields:
        MixingPanel: One per group in compose mode, ``n`` in full mode.

    Raises:
        ConfigurationError: If the model is not MixedAE, or there are fewer
            readable images than a group holds.
    """
    preprocessor = model.data_preprocessor
    num_sources = getattr(preprocessor, 'num_sources', None)
    if num_sources is None:
        raise ConfigurationError(
            f'A {type(model).__name__} mixes no images; a mixing panel takes '
            'a MixedAE model.')
    rows, columns = model.backbone.patch_resolution
    masks_a_group = preprocessor.num_samples(num_sources)
    generator = torch.Generator().manual_seed(seed)
    images = (image for _, image in _images_for(model, paths))
    num_groups = 0
    while len(group := list(islice(images, num_sources))) == num_sources:
        masks = draw_mix_masks(
            masks_a_group, rows * columns, num_sources, generator=generator)
        stacked = in_order_of_training(model, torch.stack(group))
        for mask in masks:
            yield mixing_panel(model, stacked, mask[None], channels)
        num_groups += 1
    if not num_groups:
        raise ConfigurationError(
            f'A mixing panel takes {num_sources} images (1 / mix_ratio), but '
            f'there are {len(group)}.')


def _images_for(model: BaseModel, paths: Sequence[str]) -> Iterator[Tuple[str, Tensor]]:
    """Images as large, and with as many channels, as a model was built for."""
    return load_images(paths, image_size_of(model.backbone),
                       channels=channels_of(model))
