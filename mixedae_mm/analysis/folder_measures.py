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
from .loading import (channels_of, common_channels, image_size_of, in_order_of_training,
                      load_images, normalised_for)
from .panels import MixingPanel, as_rgb, check_mixes, mixing_panel, shown_channels
from .probe_batch import mix_for_probing, patch_size_of, sources_of


def folder_topk_accuracy(model: BaseModel, paths: Sequence[str],
                         topk: Optional[int] = None, seed: int = 0,
                         batch_size: int = 64) -> Tuple[Tensor, int]:
    """TopK sampling accuracy of a model on image files, and how many were read.

    As :func:`topk_sampling_accuracy`, ``(num_layers,)`` float64 in [0, 1]. Images are
    mixed in the order of ``paths``, so it should be a random one.

    Raises:
        ConfigurationError: If there are fewer readable images than a group holds.
    """
    num_sources = sources_of(model)
    batch_size = max(batch_size // num_sources, 1) * num_sources
    total, num_samples = torch.zeros((), dtype=torch.float64), 0
    images = iter(with_progress(_images_for(model, paths), 'TopK accuracy', len(paths)))
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
    return total / num_samples, num_samples * num_sources


class AttentionMaps(NamedTuple):
    """Attention of several models on one image."""
    path: str
    image: np.ndarray  # (H, W, 3) as seen: uint8, of other channels float in [0, 1]
    maps: Mapping[str, np.ndarray]  # name of the model -> (rows, columns)


def folder_attention_maps(models: Mapping[str, BaseModel], paths: Sequence[str],
                          size: Optional[ImageSize] = None,
                          channels: Optional[Sequence[int]] = None
                          ) -> Iterator[AttentionMaps]:
    """CLS attention of one or more models, by name, on image files (Fig. 5).

    The models see a crop of ``size``; None keeps each image's own, except for what
    exceeds whole patches. ``channels`` are those of
    :func:`~mixedae_mm.analysis.panels.shown_channels`.

    Raises:
        ConfigurationError: If the models take different numbers of channels.
    """
    multiple = int(np.lcm.reduce(
        [patch_size_of(model.backbone) for model in models.values()]))
    images = load_images(paths, size, multiple, common_channels(models))
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


def folder_mixing_panels(model: BaseModel, paths: Sequence[str], seed: int = 0,
                         channels: Optional[Sequence[int]] = None
                         ) -> Iterator[MixingPanel]:
    """Mix and reconstruct image files, one group after the other.

    One panel per group in compose mode, ``n`` in full mode. Images beyond the last
    whole group are left out.

    Raises:
        ConfigurationError: If the model is not MixedAE, or there are fewer
            readable images than a group holds.
    """
    check_mixes(model)
    num_sources = sources_of(model)
    num_masks = model.data_preprocessor.num_samples(num_sources)
    rows, columns = model.backbone.patch_resolution
    generator = torch.Generator().manual_seed(seed)
    images = _images_for(model, paths)
    group = list(islice(images, num_sources))
    if len(group) < num_sources:
        raise ConfigurationError(
            f'A mixing panel takes {num_sources} images (1 / mix_ratio), but '
            f'there are {len(group)}.')
    while len(group) == num_sources:
        stacked = in_order_of_training(model, torch.stack(group))
        for mask in draw_mix_masks(num_masks, rows * columns, num_sources,
                                   generator=generator):
            yield mixing_panel(model, stacked, mask[None], channels)
        group = list(islice(images, num_sources))


def _images_for(model: BaseModel, paths: Sequence[str]) -> Iterator[Tensor]:
    """Images as large, and with as many channels, as a model was built for."""
    for _, image in load_images(paths, image_size_of(model.backbone),
                                channels=channels_of(model)):
        yield image
