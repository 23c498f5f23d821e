"""Relative position bias of BEiT, for transfer."""
from math import isqrt
from typing import NamedTuple, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TABLE = 'relative_position_bias_table'
NUM_CLS_ENTRIES = 3  # CLS to patch, patch to CLS, CLS to itself


class PatchOffsets(NamedTuple):
    """Which entry of a bias table each pair of tokens takes.

    Attributes:
        grid (tuple[int, int]): Rows and columns of patches.
        entries (Tensor): ``(N, N)`` int64, of query and key; ``N`` is ``1 + L``
            with a CLS token.
    """
    grid: Tuple[int, int]
    entries: Tensor


class RelativePositionBias(nn.Module):
    """One learnt number per head and offset between two patches.

    BEiT adds it to the attention scores, and MAE does on ADE20K. It starts at
    zero, so that a pre-trained ViT begins as it was. For other grids than its
    own the table is interpolated (bicubic).

    Args:
        grid (tuple[int, int]): Rows and columns of patches of the usual
            image.
        num_heads (int): Attention heads.
        with_cls_token (bool): Whether the first token is CLS, which has three
            numbers per head of its own.
    """

    relative_position_bias_table: nn.Parameter

    def __init__(self,
                 grid: Tuple[int, int],
                 num_heads: int,
                 with_cls_token: bool = True) -> None:
        super().__init__()
        rows, columns = grid
        self.grid = (rows, columns)
        self.num_extra = NUM_CLS_ENTRIES if with_cls_token else 0
        num_offsets = (2 * rows - 1) * (2 * columns - 1)
        self.register_parameter(
            TABLE,
            nn.Parameter(torch.zeros(num_offsets + self.num_extra, num_heads)))

    def forward(self, offsets: PatchOffsets) -> Tensor:
        """The bias ``(heads, N, N)`` of a patch grid."""
        table = resize_table(self.relative_position_bias_table, self.grid,
                             offsets.grid, self.num_extra)
        return table.T[:, offsets.entries]  # (heads, N, N)


def patch_offsets(grid: Tuple[int, int],
                  with_cls_token: bool = True,
                  device=None) -> PatchOffsets:
    """Number the offsets between patches row by row, then CLS's entries.

    In a grid of ``(h, w)`` patches, the entry of a query at ``(r, c)`` and a key at
    ``(r', c')`` is ``(r - r' + h - 1) * (2 w - 1) + (c - c' + w - 1)``.
    """
    rows, columns = grid
    row = torch.arange(rows, device=device).repeat_interleave(columns)
    column = torch.arange(columns, device=device).repeat(rows)
    down = row[:, None] - row + rows - 1  # (L, L)
    right = column[:, None] - column + columns - 1
    index = down * (2 * columns - 1) + right
    if with_cls_token:
        index = F.pad(index, (1, 0, 1, 0))
        first = (2 * rows - 1) * (2 * columns - 1)
        index[0, :] = first
        index[:, 0] = first + 1
        index[0, 0] = first + 2
    return PatchOffsets((rows, columns), index)


def table_grid(num_offsets: int, known: Optional[Tuple[int, int]],
               wanted: Tuple[int, int]) -> Optional[Tuple[int, int]]:
    """The patch grid of a bias table, which shows only how many offsets there are.

    The first that has as many: the grid of its ViT's positions, if known, a square
    one, the grid of the model that takes it; None if none has.
    """
    side = (isqrt(num_offsets) + 1) // 2
    for grid in (known, (side, side), wanted):
        if grid and (2 * grid[0] - 1) * (2 * grid[1] - 1) == num_offsets:
            return grid[0], grid[1]
    return None


def resize_table(table: Tensor,
                 source: Tuple[int, int],
                 target: Tuple[int, int],
                 num_extra: int = NUM_CLS_ENTRIES) -> Tensor:
    """Interpolate a bias table from one patch grid to another.

    Tables are ``((2 h - 1) * (2 w - 1) + num_extra, heads)`` for a grid of ``(h, w)``;
    the entries of CLS at the end stay.
    """
    if tuple(source) == tuple(target):
        return table
    num_offsets = len(table) - num_extra
    given, wanted = ([2 * side - 1 for side in grid] for grid in (source, target))
    offsets = table[:num_offsets].T.unflatten(1, given)[None]  # (1, heads, h, w)
    # With align_corners the farthest offsets stay the farthest ones, and the middle
    # stays the offset 0.
    offsets = F.interpolate(
        offsets.float(), size=wanted, mode='bicubic', align_corners=True)
    offsets = offsets[0].flatten(1).T.to(table.dtype)
    return torch.cat([offsets, table[num_offsets:]])
