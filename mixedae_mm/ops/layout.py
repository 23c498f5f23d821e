"""Layout of the tensors that the paths of homologous attention read and write."""
from typing import Tuple

import torch
from torch import Tensor

_MAX_OFFSET = 2**31 - 1  # kernels count elements inside one head in int32


def new_heads(like: Tensor) -> Tensor:
    """Make an uninitialised ``(B, heads, N, D)`` whose layout is always the same.

    It is stored as ``(B, N, heads, D)``, so that an attention layer joins the
    heads of its output without a copy. It does not take the strides of ``like``:
    kernels write contiguous rows, which a transposed ``like`` does not have.
    """
    batch_size, num_heads, num_tokens, head_dim = like.shape
    stored = like.new_empty(batch_size, num_tokens, num_heads, head_dim)
    return stored.transpose(1, 2)


def new_statistics(like: Tensor) -> Tuple[Tensor, Tensor]:
    """Make uninitialised thresholds and log-sum-exps, ``(B, heads, N)`` each."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return (like.new_empty(like.shape[:3], dtype=dtype),
            like.new_empty(like.shape[:3], dtype=dtype))


def with_contiguous_rows(tensor: Tensor) -> Tensor:
    """Copy a tensor that kernels cannot read; a view of a fused qkv stays a view."""
    is_far = tensor.size(2) * tensor.stride(2) > _MAX_OFFSET
    if tensor.stride(-1) == 1 and not is_far:
        return tensor
    return tensor.contiguous()
