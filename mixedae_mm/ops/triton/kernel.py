"""Homologous attention on the GPU: fused Triton kernels.

A program holds the scores of a block of queries against *all* keys on chip,
finds the threshold of each query there, and goes on to softmax and values:
nothing of size N x N reaches device memory. The backward computes the scores
again from the statistics that :mod:`mixedae_mm.ops.attention` describes, without
a search. Its scores come from other blocks or from transposed products,
where the hardware may round the last bit differently. Therefore the threshold
lies halfway between the smallest kept and the largest dropped score: only keys
whose scores are closer than the rounding error can be chosen differently.

The kernels are in forward.py and backward.py; this module launches them.
"""
from contextlib import nullcontext
from typing import List, Optional, Tuple

import torch
import triton
from torch import Tensor

from ..layout import new_heads, new_statistics, with_contiguous_rows
from .backward import gradients_kernel, query_gradient_kernel
from .forward import forward_kernel

# Rows of scores that fit on chip; products in float32 need more registers.
_MAX_TOKENS = {torch.float16: 1024, torch.bfloat16: 1024, torch.float32: 256}
_MAX_HEAD_DIM = 128

# Where all keys of a head fit on chip: fastest on an H200 for 197 tokens.
_LARGE_ROWS = dict(BLOCK_M=64, BLOCK_D=64, num_warps=4, num_stages=1)
_SMALL_ROWS = dict(BLOCK_M=16, BLOCK_D=64, num_warps=4, num_stages=1)


def unsupported(query: Tensor) -> Optional[str]:
    """Why these kernels cannot take tensors like ``query``; None if they can."""
    num_tokens, head_dim = query.shape[-2:]
    if int(triton.__version__.split('.')[0]) < 3:
        return f'Triton {triton.__version__} is older than 3.0'
    if query.dtype not in _MAX_TOKENS:
        return f'the dtype is {query.dtype}'
    if num_tokens > _MAX_TOKENS[query.dtype]:
        return (f'{num_tokens} tokens are more than the '
                f'{_MAX_TOKENS[query.dtype]} whose {query.dtype} scores fit '
                'on chip')
    if head_dim > _MAX_HEAD_DIM:
        return f'a head dimension of {head_dim} is more than {_MAX_HEAD_DIM}'
    if query.is_cuda and torch.cuda.get_device_capability(
            query.device) < (8, 0):
        return 'the GPU is older than Ampere (compute capability 8.0)'
    return None


def forward(query: Tensor, key: Tensor, value: Tensor, topk: int,
            scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """See :mod:`mixedae_mm.ops.attention`."""
    output = new_heads(query)
    thresholds, logsumexps = new_statistics(query)
    query, key, value = map(with_contiguous_rows, (query, key, value))
    arguments = (*_strided(query, key, value, output), thresholds, logsumexps,
                 *query.shape[1:3], topk, scale)
    with _on_device_of(query):
        for first_row, num_blocks, options in _forward_launches(query):
            grid = (num_blocks * query.shape[0] * query.shape[1], )
            forward_kernel[grid](*arguments, first_row, num_blocks, **options)
    return output, thresholds, logsumexps


def backward(grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor,
             thresholds: Tensor, logsumexps: Tensor,
             scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """See :mod:`mixedae_mm.ops.attention`."""
    gradients = [new_heads(query) for _ in range(3)]  # of query, key and value
    inputs = _strided(*map(with_contiguous_rows,
                           (query, key, value, grad_output)))
    sizes = (*query.shape[1:3], scale)
    mean_grads = None
    fits = _fits(query)
    with _on_device_of(query):
        if not fits:
            mean_grads = torch.empty_like(thresholds)
            grid, options = _row_launch(query)
            query_gradient_kernel[grid](
                *inputs, *_strided(gradients[0]), thresholds, logsumexps, mean_grads,
                *sizes, **options)
        grid, options = _gradients_launch(query, fits)
        gradients_kernel[grid](
            *inputs, *_strided(*gradients), thresholds, logsumexps, mean_grads,
            *sizes, **options)
    return gradients[0], gradients[1], gradients[2]


def _strided(*tensors: Tensor) -> tuple:
    """Each tensor followed by the strides that kernels take."""
    return tuple(argument for tensor in tensors
                 for argument in (tensor, *tensor.stride()[:3]))


def _on_device_of(tensor: Tensor):
    # Triton launches on the current device, and its interpreter on the CPU.
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


# Launches: a grid and the options of the kernel. Blocks are about as large as
# registers allow: 128 scores per thread in the forward.


def _whole(size: int) -> int:
    """The smallest block that holds ``size`` rows or columns."""
    return max(16, triton.next_power_of_2(size))


def _fits(query: Tensor, capability: Optional[Tuple[int, int]] = None) -> bool:
    """Whether one program can hold a head: its keys, values and their gradients.

    That is the usual case, 197 tokens and heads of 64, on Hopper, whose matrix
    units read shared memory. Other GPUs would spill registers.
    """
    if query.is_cuda:
        capability = torch.cuda.get_device_capability(query.device)
    return (capability in (None, (9, 0)) and query.element_size() == 2 and
            _whole(query.shape[2]) * _whole(query.shape[3]) <= 256 * 64)


def _forward_launches(
        query: Tensor, capability: Optional[Tuple[int, int]] = None
) -> List[Tuple[int, int, dict]]:
    """First row, number of blocks per head, and options of each launch.

    Where all keys fit, a warp holds whole rows and searches by itself. The
    rows that remain after the large blocks (5 of 197 after three blocks of 64)
    are in smaller blocks.
    """
    num_tokens, head_dim = query.shape[2:]
    if not _fits(query, capability):
        _, options = _row_launch(query)
        return [(0, triton.cdiv(num_tokens, options['BLOCK_M']), options)]
    sizes = dict(HEAD_DIM=head_dim, BLOCK_N=_whole(num_tokens))
    large, small = _LARGE_ROWS['BLOCK_M'], _SMALL_ROWS['BLOCK_M']
    num_large, left = divmod(num_tokens, large)
    num_small = triton.cdiv(left, small)
    if num_small * small > large // 2:
        num_large, num_small = num_large + 1, 0
    return [
        (first_row, num_blocks, dict(sizes, **options))
        for first_row, num_blocks, options in (
            (0, num_large, _LARGE_ROWS),
            (num_large * large, num_small, _SMALL_ROWS)) if num_blocks
    ]


def _row_launch(query: Tensor) -> Tuple[tuple, dict]:
    """Longer rows, whose scores the forward and the query gradients hold."""
    block_n = _whole(query.shape[2])
    block_m = 32 if block_n <= 256 else 16
    return _launch(query, block_m, dict(
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_D=64 // query.element_size(),
        num_warps=8 if block_n >= 256 else 4, num_stages=1))


def _gradients_launch(query: Tensor, fits: bool) -> Tuple[tuple, dict]:
    """One program per head where it fits, else one per block of keys."""
    if fits:
        block_n = _whole(query.shape[2])
        return _launch(query, block_n, dict(
            BLOCK_M=32, BLOCK_N=block_n, BLOCK_D=_whole(query.shape[3]),
            HAS_ALL_KEYS=True, num_warps=8 if block_n >= 256 else 4, num_stages=4))
    block_n = 64 if query.element_size() == 2 else 32
    return _launch(query, block_n, dict(
        BLOCK_M=32, BLOCK_N=block_n, BLOCK_D=_whole(query.shape[3]),
        HAS_ALL_KEYS=False, num_warps=4, num_stages=2))


def _launch(query: Tensor, block: int, options: dict) -> Tuple[tuple, dict]:
    batch_size, num_heads, num_tokens, head_dim = query.shape
    grid = (triton.cdiv(num_tokens, block) * batch_size * num_heads, )
    return grid, dict(options, HEAD_DIM=head_dim)
