"""Fixed sin-cos position embeddings for any patch grid."""
from mmpretrain.models.utils import build_2d_sincos_position_embedding
from torch import Tensor


def sincos_position_embedding(grid, embed_dims: int) -> Tensor:
    """mmpretrain's MAE position table, also for grids that are not square.

    mmpretrain's function lays its first half of channels out along the
    slowest axis and calls it the width. Asked for ``(columns, rows)`` it
    therefore gives the table whose rows are in the order of our tokens (row
    by row); for a square grid this is exactly what its MAE uses.

    Args:
        grid (tuple[int, int]): Rows and columns of patches.
        embed_dims (int): Channels ``C``, a multiple of 4.

    Returns:
        Tensor: ``(1, 1 + rows * columns, C)`` float32; CLS is all zeros.
    """
    rows, columns = grid
    return build_2d_sincos_position_embedding(
        (columns, rows), embed_dims, cls_token=True)
