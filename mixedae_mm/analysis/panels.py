"""Figures of mixing: what goes in, what the encoder sees, what comes out."""
from functools import partial
from typing import Any, List, NamedTuple, Optional, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from mmengine.model import BaseModel
from torch import Tensor

from ..mixing import (gather_hidden, mix_images, patch_grid, patch_statistics,
                      patchify, scatter_hidden, unmix_tokens, unpatchify)
from ..models import MixedAE
from ..utils.errors import ConfigurationError
from ..utils.preprocessing import channels_to_read
from ..utils.undisturbed import evaluating
from .figures import literal

HIDDEN_GREY = 0.8  # of patches that the encoder did not see, in [0, 1]
CONTRAST = 0.2  # of other channels than RGB: mean - 2.5 std is 0, mean + 2.5 std is 1
# One colour per source image (Okabe and Ito's, told apart by colour-blind
# readers too), repeated beyond eight.
SOURCE_COLOURS = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9',
                  '#D55E00', '#F0E442', '#555555')


class MixingPanel(NamedTuple):
    """The images of one mixed sample: RGB, float in [0, 1], on the CPU."""
    clean: Tensor  # (n, 3, H, W), the group
    mix_mask: Tensor  # (rows, columns) int64
    mixed: Tensor  # (3, H, W)
    unmixed: Tensor  # (n, 3, H, W): what is shown of each source, grey elsewhere
    # (n, 3, H, W): the decoder's patches, visible ones as they are; None without it.
    reconstructed: Optional[Tensor]


def mixing_panel(model: BaseModel, images: Tensor, mix_mask: Tensor,
                 channels: Optional[Sequence[int]] = None) -> MixingPanel:
    """Mix one group of images and reconstruct them.

    The decoder predicts patches normalised by their own mean and standard
    deviation. Those of the true patches are put back in, as MAE's
    visualisations do: without them there is nothing to recognise.

    Args:
        model (BaseModel): ``MixedAE``.
        images (Tensor): ``(n, C, H, W)`` in 0..255, one group.
        mix_mask (Tensor): ``(1, L)`` int64.
        channels (sequence[int], optional): As in :func:`shown_channels`.
    """
    check_mixes(model)
    preprocessor = model.data_preprocessor
    num_sources, patch_size = preprocessor.num_sources, preprocessor.patch_size
    if len(images) != num_sources:
        raise ConfigurationError(
            f'A mixing panel takes one group of {num_sources} images, not '
            f'{len(images)} images.')
    to_rgb_images = partial(as_rgb, preprocessor=preprocessor, channels=channels)
    reconstructed = None
    with evaluating(model):
        clean = preprocessor(dict(inputs=images, data_samples=None))['inputs']
        grid = patch_grid(clean.shape[-2:], patch_size)
        mix_mask = mix_mask.to(clean.device)
        mixed = mix_images(clean, mix_mask, num_sources, patch_size)
        if model.with_neck:
            patches = patchify(clean, patch_size)[None]  # (1, n, L, P * P * C)
            tokens = model.backbone(mixed, mix_mask).tokens
            predictions = model.neck(tokens, mix_mask).float()
            if model.head.norm_pix:
                mean, std = (gather_hidden(statistics, mix_mask)
                             for statistics in patch_statistics(patches))
                predictions = predictions * std + mean
            filled = scatter_hidden(predictions, mix_mask, patches)[0]
            reconstructed = to_rgb_images(unpatchify(filled, grid, patch_size))
    mixed, mix_mask = to_rgb_images(mixed), mix_mask.cpu()
    grey = torch.full((3 * patch_size**2, ), HIDDEN_GREY)
    unmixed = unmix_tokens(patchify(mixed, patch_size), mix_mask, num_sources, grey)[0]
    return MixingPanel(
        to_rgb_images(clean), mix_mask[0].unflatten(0, grid), mixed[0],
        unpatchify(unmixed, grid, patch_size), reconstructed)


def check_mixes(model: BaseModel) -> None:
    """Refuse a model other than MixedAE."""
    if not isinstance(model, MixedAE):
        raise ConfigurationError(
            f'A mixing panel takes a MixedAE model, not {type(model).__name__}.')


def shown_channels(count: int, preprocessor: Any,
                   channels: Optional[Sequence[int]] = None) -> Optional[List[int]]:
    """Which three of ``count`` channels are drawn as red, green and blue.

    By default RGB, for which this is None and which is drawn as it is, or
    :func:`first_channels`. Others are drawn by their mean and standard deviation.

    Raises:
        ConfigurationError: If a channel does not exist.
    """
    mean = getattr(preprocessor, 'mean', None)
    if channels is None and channels_to_read(count, mean) is None:
        return None
    shown = list(channels or first_channels(count))
    if len(shown) != 3 or not all(
            isinstance(channel, int) and 0 <= channel < count for channel in shown):
        raise ConfigurationError(
            f'The channels to be shown are {shown}, but must be three numbers from 0 '
            f'to {count - 1}.')
    return shown


def first_channels(count: int) -> List[int]:
    """What is drawn of so many channels by default: the first three, or one in grey."""
    return [0, 1, 2] if count >= 3 else [0, 0, 0]


def as_rgb(images: Tensor, preprocessor: Any,
           channels: Optional[Sequence[int]] = None) -> Tensor:
    """Normalised images ``(B, C, H, W)`` to ``(B, 3, H, W)`` in 0..1, on the CPU.

    Arguments and errors are those of :func:`shown_channels`.
    """
    shown = shown_channels(images.size(1), preprocessor, channels)
    if shown is not None:
        images = images[:, shown] * CONTRAST + 0.5
    elif getattr(preprocessor, '_enable_normalize', True):
        images = (images * preprocessor.std + preprocessor.mean) / 255
    else:
        images = images / 255
    return images.clamp(0, 1).cpu()


def draw_mixing_panel(panel: MixingPanel, title: str = '') -> Figure:
    """Draw mask and mixed sample on the left, one column per source beside them."""
    num_sources, _, height, width = panel.clean.shape
    rows = [('clean', panel.clean), ('unmixed input', panel.unmixed)]
    if panel.reconstructed is not None:
        rows.append(('reconstruction', panel.reconstructed))
    cell = 1.35  # inches
    wide = len(rows) / 2  # mask and mixed sample share the whole height
    figure = Figure(
        figsize=(cell * width / height * (num_sources + wide) + 0.9,
                 cell * len(rows) + (0.75 if title else 0.45)),
        layout='constrained')
    left, right = figure.subfigures(
        1, 2, squeeze=False, width_ratios=[wide, num_sources], wspace=0.03)[0]
    if title:
        figure.suptitle(title, fontsize=10)

    mask_axes, mixed_axes = left.subplots(2, 1)
    colours = torch.tensor([to_rgb(source_colour(i))
                            for i in range(num_sources)])
    show_image(mask_axes, colours[panel.mix_mask], 'mask: whose patch')
    show_image(mixed_axes, panel.mixed.permute(1, 2, 0), 'mixed sample')

    axes = right.subplots(len(rows), num_sources, squeeze=False)
    for row, (name, images) in enumerate(rows):
        for i in range(num_sources):
            show_image(axes[row, i], images[i].permute(1, 2, 0))
            frame(axes[row, i], i)
        axes[row, 0].set_ylabel(name, fontsize=9)
    for i in range(num_sources):
        axes[0, i].set_title(f'source {i}', fontsize=9, color='0.3')
    return literal(figure)


def source_colour(source: int) -> str:
    """Colour of a source image in masks and frames."""
    return SOURCE_COLOURS[source % len(SOURCE_COLOURS)]


def frame(axes: Axes, source: int) -> None:
    """Draw a frame in the colour of a source image."""
    for spine in axes.spines.values():
        spine.set(visible=True, color=source_colour(source), linewidth=2.5)


def show_image(axes: Axes, image: Tensor, title: str = '') -> None:
    """Draw RGB values in 0..1, ``(H, W, 3)``, without ticks and frame."""
    axes.imshow(image.numpy(), interpolation='nearest')
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(title, fontsize=9)
