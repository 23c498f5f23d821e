"""Weights of a checkpoint brought to the patch grid and the channels of a model."""
from math import isqrt
from typing import Dict, List, Optional, Tuple

import torch
from mmpretrain.models import MAEPretrainDecoder, VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor

from ..utils.errors import ConfigurationError
from ..utils.messages import warn
from .checkpoint_names import LANDMARKS
from .layers.position_embedding import SinCosTable, recognize_sincos
from .layers.relative_position_bias import (NUM_CLS_ENTRIES, TABLE, resize_table,
                                            table_grid)

Grid = Tuple[int, int]
PREDICTIONS = ('decoder_pred.weight', 'decoder_pred.bias')
HOW_TO_SAY = 'say it as grid=(rows, columns) beside checkpoint in init_cfg'


def fit_grids(vit: VisionTransformer, weights: Dict[str, Tensor], source: str,
              grid: Optional[Grid]) -> List[str]:
    """Give positions and bias tables the grid of a ViT.

    Fixed positions (in pre-training) are computed; those that go on to be trained
    are interpolated, so that they begin as coordinates that were seen. Arguments are
    those of :func:`.checkpoint_fitting.fit`.

    Returns:
        list[str]: What was made anew, with both grids.

    Raises:
        ConfigurationError: If positions or tables do not tell their grid.
    """
    resized = []
    wanted = tuple(vit.patch_resolution)
    has_cls = 'cls_token' in weights  # then its position is the first
    drops_cls = has_cls and not vit.with_cls_token
    positions = weights.get('pos_embed')  # (1, 1 + L, C), or (1, L, C) without CLS
    if positions is not None:
        table = recognize_sincos(positions[:, int(has_cls):])
        if table is not None:
            grid = table.grid
        else:
            grid = _trained_grid(positions.shape[1] - has_cls, grid, wanted, source)
        if drops_cls:
            positions = positions[:, 1:]  # (1, L, C)
        if grid != wanted:
            if table is not None and getattr(vit, 'is_pretraining', False):
                positions = _computed(positions, table, wanted)
            else:
                positions = resize_pos_embed(positions, grid, wanted,
                                             vit.interpolate_mode, vit.num_extra_tokens)
            resized.append(_change('pos_embed', grid, wanted))
        weights['pos_embed'] = positions
    num_cls = NUM_CLS_ENTRIES if has_cls else 0
    for name in vit.state_dict():
        if not name.endswith(TABLE) or name not in weights:
            continue
        own = table_grid(len(weights[name]) - num_cls, grid, wanted)
        if own is None:
            raise ConfigurationError(
                f'{source} has a {name} of {len(weights[name])} entries, which do '
                f'not tell their patch grid; {HOW_TO_SAY}.')
        if own != wanted:
            weights[name] = resize_table(weights[name], own, wanted, num_cls)
            resized.append(_change(name, own, wanted))
        if drops_cls:
            weights[name] = weights[name][:-NUM_CLS_ENTRIES]
    return resized


def fit_decoder_grid(decoder: MAEPretrainDecoder,
                     weights: Dict[str, Tensor]) -> List[str]:
    """Give the fixed positions of a decoder its grid, as :func:`fit_grids`."""
    positions = weights.get('decoder_pos_embed')  # (1, 1 + L, D)
    table = None if positions is None else recognize_sincos(positions[:, 1:])
    if positions is None or table is None or table.grid == decoder.grid:
        return []
    weights['decoder_pos_embed'] = _computed(positions, table, decoder.grid)
    return [_change('decoder_pos_embed', table.grid, decoder.grid)]


def _computed(positions: Tensor, table: SinCosTable, grid: Grid) -> Tensor:
    """The table of another grid, with the position that CLS has."""
    resized = table.resized(grid, positions.shape[-1]).to(positions)  # (1, 1 + L, C)
    return torch.cat([positions[:, :1], resized[:, 1:]], dim=1)


def _trained_grid(num_patches: int, known: Optional[Grid], wanted: Grid,
                  source: str) -> Grid:
    """The patch grid of trained positions, which do not show it themselves."""
    if known is not None and known[0] * known[1] == num_patches:
        return known
    side = isqrt(num_patches)
    square = (side, side) if side * side == num_patches else None
    same_number = wanted[0] * wanted[1] == num_patches
    if square and (not same_number or wanted == square):
        return square
    sentence = (f'{source} has trained positions of {num_patches} patches and does not '
                'say how these lie')
    if not same_number:
        raise ConfigurationError(f'{sentence}: not as a square grid; {HOW_TO_SAY}.')
    if square:
        raise ConfigurationError(
            f'{sentence}: as {_text(wanted)} like those of this model, or as '
            f'{_text(square)}; {HOW_TO_SAY}.')
    warn(f'{sentence}; they are taken as {_text(wanted)}.')
    return wanted


def _change(name: str, source: Grid, target: Grid) -> str:
    return f'{name} {_text(source)} -> {_text(target)}'


def _text(grid: Grid) -> str:
    return f'{grid[0]}x{grid[1]}'


def with_channels(weights: Dict[str, Tensor], channels: int) -> List[str]:
    """Make weights those of a ViT, and of its decoder, for other channels, in place.

    An image whose channels are all equal has the same features before and after: each
    new channel gets the sum of the old weights, divided by the new number of channels,
    and what a decoder predicts of a channel is the mean of what it predicted of all.
    Names are mmpretrain's with any prefix. Says what was changed, with both numbers.
    """
    found = [name for name in weights if name.endswith(LANDMARKS['mm'])]
    if len(found) != 1 or weights[found[0]].dim() != 4:
        return []
    projection = weights[found[0]]  # (D, C, P, P)
    before = projection.shape[1]
    if before == channels:
        return []
    weights[found[0]] = (projection.sum(1, keepdim=True) / channels).repeat(
        1, channels, 1, 1)
    changed = found
    pixels = projection[0].numel()
    for name in [name for name in weights if name.endswith(PREDICTIONS)]:
        value = weights[name]
        if len(value) == pixels:  # (P * P * C, ...), the channels of a pixel together
            mean = value.unflatten(0, (-1, before)).mean(1)
            weights[name] = mean.repeat_interleave(channels, 0)
            changed.append(name)
    return [f'{name} {before} -> {channels} channels' for name in changed]
