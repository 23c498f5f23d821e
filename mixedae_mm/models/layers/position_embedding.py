"""Fixed sin-cos position embeddings for any patch grid."""
from typing import NamedTuple, Optional, Tuple

import torch
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import Tensor


class SinCosTable(NamedTuple):
    """What tells one sin-cos position table from another.

    Attributes:
        grid (tuple[int, int]): Rows and columns of patches.
        columns_first (bool): Whether the first half of the channels encodes the
            column, as in Meta's MAE; in mmpretrain's it encodes the row.
    """
    grid: Tuple[int, int]
    columns_first: bool

    def resized(self, grid, embed_dims: int) -> Tensor:
        """The table of another grid, as :func:`sincos_position_embedding`."""
        return sincos_position_embedding(grid, embed_dims, self.columns_first)


def sincos_position_embedding(grid,
                              embed_dims: int,
                              columns_first: bool = False) -> Tensor:
    """mmpretrain's MAE position table, also for grids that are not square.

    mmpretrain's function lays its first half of channels out along the
    slowest axis and calls it the width. Asked for ``(columns, rows)`` it
    therefore gives the table whose rows are in the order of our tokens (row
    by row); for a square grid this is exactly what its MAE uses.

    Args:
        grid (tuple[int, int]): Rows and columns of patches.
        embed_dims (int): Channels ``C``, a multiple of 4.
        columns_first (bool): See :class:`SinCosTable`.

    Returns:
        Tensor: ``(1, 1 + rows * columns, C)`` float32; CLS is all zeros.
    """
    rows, columns = grid
    table = build_2d_sincos_position_embedding(
        (columns, rows), embed_dims, cls_token=True)
    return table.roll(embed_dims // 2, dims=-1) if columns_first else table


def recognize_sincos(positions: Tensor) -> Optional[SinCosTable]:
    """Find the sin-cos table that positions ``(1, L, C)`` of patches are equal to.

    In any floating-point type; None for trained embeddings.
    """
    num_patches, width = positions.shape[1:]
    if width % 4:
        return None
    # bfloat16 rounds by more than the rest.
    tolerance = max(1e-3, torch.finfo(positions.dtype).eps)
    # Without the commands of ours, mmengine resumes with a checkpoint on the GPU.
    positions = positions.detach().float().cpu()
    for rows in range(1, num_patches + 1):
        if num_patches % rows:
            continue
        for columns_first in (False, True):
            table = SinCosTable((rows, num_patches // rows), columns_first)
            if torch.allclose(positions, table.resized(table.grid, width)[:, 1:],
                              rtol=0, atol=tolerance):
                return table
    return None
