"""Homologous attention on the GPU: fused Triton kernels.

A program holds the scores of a block of queries against *all* keys on chip,
finds each query's threshold there, and goes on to softmax and values: nothing
of size N x N reaches device memory. A query's threshold and log-sum-exp are
kept, so the backward computes the scores anew and never searches.

The backward must keep exactly the keys that the forward kept. The query
gradients' scores are computed by the forward's own function and blocks. The
key and value gradients' are transposed products over the same dimensions, in
which hardware could round the last bit otherwise; therefore the threshold lies
halfway between the smallest kept and the largest dropped score. Only keys
whose scores are as close as rounding error could then trade places.
"""
from contextlib import nullcontext
from typing import Optional, Tuple

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows of scores that fit on chip; products in float32 need more registers.
_MAX_TOKENS = {torch.float16: 1024, torch.bfloat16: 1024, torch.float32: 256}
_MAX_HEAD_DIM = 128


@triton.jit
def _ordered_integers(numbers):
    """Integers in the order of the floats they stand for."""
    bits = numbers.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _from_ordered_integers(integers):
    bits = integers ^ ((integers >> 31) & 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def _separating_thresholds(scores, is_key, topk):
    """A threshold a row: no kept score is below it, every dropped one is.

    Found by bisection, all rows together, until each keeps ``topk`` scores or
    has only ties left. NaN is never below, so it is kept and reaches the
    output.

    Args:
        scores: (rows, columns) float32, -inf where there is no key.
        is_key: (1, columns).
    """
    low = tl.min(tl.where(is_key, scores, float('inf')), 1)
    high = tl.max(scores, 1)
    # `low` keeps at least topk scores, anything above `high` fewer.
    searching = low < high
    step = 0
    while tl.max(searching.to(tl.int32), 0) > 0:
        # Halving the value is quick for ordinary scores; halving the integer
        # bounds the search where scores tie, are infinite or tiny.
        middle = 0.5 * low + 0.5 * high
        is_inside = (middle > low) & (middle <= high) & (step < 16)
        low_integer = _ordered_integers(low)
        high_integer = _ordered_integers(high)
        # Half of their sum, rounded up, without overflow.
        middle_integer = ((low_integer | high_integer) -
                          ((low_integer ^ high_integer) >> 1))
        middle = tl.where(is_inside, middle,
                          _from_ordered_integers(middle_integer))
        kept = tl.sum(tl.where(scores < middle[:, None], 0, 1), 1)
        below_middle = _from_ordered_integers(_ordered_integers(middle) - 1)
        low = tl.where(searching & (kept >= topk), middle, low)
        high = tl.where(searching & (kept < topk), below_middle, high)
        searching = searching & (low < high) & (kept != topk)
        step += 1
    is_dropped = scores < low[:, None]
    smallest_kept = tl.min(tl.where(is_dropped, float('inf'), scores), 1)
    largest_dropped = tl.max(tl.where(is_dropped, scores, float('-inf')), 1)
    halfway = 0.5 * smallest_kept + 0.5 * largest_dropped
    return tl.where(halfway > largest_dropped, halfway, smallest_kept)


@triton.jit
def _head(tensor, stride_batch, stride_head, head, num_heads):
    """Where a head begins; ``head`` counts through the batch."""
    return (tensor + (head // num_heads).to(tl.int64) * stride_batch +
            (head % num_heads).to(tl.int64) * stride_head)


@triton.jit
def _load(matrix, stride, rows, columns, num_rows, num_columns):
    return tl.load(
        matrix + rows[:, None] * stride + columns[None, :],
        mask=(rows[:, None] < num_rows) & (columns[None, :] < num_columns),
        other=0.)


@triton.jit
def _store(matrix, stride, rows, columns, num_rows, num_columns, numbers):
    tl.store(
        matrix + rows[:, None] * stride + columns[None, :],
        numbers.to(matrix.dtype.element_ty),
        mask=(rows[:, None] < num_rows) & (columns[None, :] < num_columns))


@triton.jit
def _product(left, right):
    """Accumulated in float32; float32 inputs keep float32's precision."""
    return tl.dot(left, right, input_precision='tf32x3')


@triton.jit
def _all_products(left, left_stride, rows, right, right_stride, columns,
                  num_tokens, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """``left @ right.T`` for rows of two (N, D) matrices, BLOCK_D at a time."""
    products = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for first in range(0, HEAD_DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        one = _load(left, left_stride, rows, dims, num_tokens, HEAD_DIM)
        other = _load(right, right_stride, columns, dims, num_tokens, HEAD_DIM)
        products += _product(one, tl.trans(other))
    return products


@triton.jit
def _forward_kernel(query, query_batch, query_head, query_token,
                    key, key_batch, key_head, key_token,
                    value, value_batch, value_head, value_token,
                    output, output_batch, output_head, output_token,
                    thresholds, logsumexps,
                    num_heads, num_tokens, topk, scale,
                    HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
                    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    num_blocks = tl.cdiv(num_tokens, BLOCK_M)
    head = tl.program_id(0) // num_blocks
    rows = tl.program_id(0) % num_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    keys = tl.arange(0, BLOCK_N)
    query = _head(query, query_batch, query_head, head, num_heads)
    key = _head(key, key_batch, key_head, head, num_heads)
    value = _head(value, value_batch, value_head, head, num_heads)
    output = _head(output, output_batch, output_head, head, num_heads)

    scores = _all_products(query, query_token, rows, key, key_token, keys,
                           num_tokens, HEAD_DIM, BLOCK_D) * scale
    is_key = keys[None, :] < num_tokens
    scores = tl.where(is_key, scores, float('-inf'))
    threshold = _separating_thresholds(scores, is_key, topk)
    largest = tl.max(scores, 1)
    weights = tl.where(scores < threshold[:, None], 0.,
                       tl.exp(scores - largest[:, None]))
    total = tl.sum(weights, 1)
    weights = (weights / total[:, None]).to(output.dtype.element_ty)
    for first in range(0, HEAD_DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        values = _load(value, value_token, keys, dims, num_tokens, HEAD_DIM)
        _store(output, output_token, rows, dims, num_tokens, HEAD_DIM,
               _product(weights, values))
    statistics = head.to(tl.int64) * num_tokens + rows
    is_row = rows < num_tokens
    tl.store(thresholds + statistics, threshold, mask=is_row)
    tl.store(logsumexps + statistics, largest + tl.log(total), mask=is_row)


@triton.jit
def _query_gradient_kernel(query, query_batch, query_head, query_token,
                           key, key_batch, key_head, key_token,
                           value, value_batch, value_head, value_token,
                           upstream, upstream_batch, upstream_head,
                           upstream_token,
                           grad, grad_batch, grad_head, grad_token,
                           thresholds, logsumexps, mean_grads,
                           num_heads, num_tokens, scale,
                           HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
                           BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Gradient of a block of queries; also each query's sum(P * dP)."""
    num_blocks = tl.cdiv(num_tokens, BLOCK_M)
    head = tl.program_id(0) // num_blocks
    rows = tl.program_id(0) % num_blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    keys = tl.arange(0, BLOCK_N)
    query = _head(query, query_batch, query_head, head, num_heads)
    key = _head(key, key_batch, key_head, head, num_heads)
    value = _head(value, value_batch, value_head, head, num_heads)
    upstream = _head(upstream, upstream_batch, upstream_head, head, num_heads)
    grad = _head(grad, grad_batch, grad_head, head, num_heads)
    statistics = head.to(tl.int64) * num_tokens + rows
    is_row = rows < num_tokens
    threshold = tl.load(thresholds + statistics, mask=is_row, other=0.)
    logsumexp = tl.load(logsumexps + statistics, mask=is_row, other=0.)

    scores = _all_products(query, query_token, rows, key, key_token, keys,
                           num_tokens, HEAD_DIM, BLOCK_D) * scale
    scores = tl.where(keys[None, :] < num_tokens, scores, float('-inf'))
    weights = tl.where(scores < threshold[:, None], 0.,
                       tl.exp(scores - logsumexp[:, None]))
    # The softmax's own gradient: P * (dP - sum(P * dP)).
    grad_weights = _all_products(upstream, upstream_token, rows, value,
                                 value_token, keys, num_tokens, HEAD_DIM,
                                 BLOCK_D)
    mean_grad = tl.sum(weights * grad_weights, 1)
    grad_scores = weights * (grad_weights - mean_grad[:, None]) * scale
    grad_scores = grad_scores.to(grad.dtype.element_ty)
    for first in range(0, HEAD_DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        block_keys = _load(key, key_token, keys, dims, num_tokens, HEAD_DIM)
        _store(grad, grad_token, rows, dims, num_tokens, HEAD_DIM,
               _product(grad_scores, block_keys))
    tl.store(mean_grads + statistics, mean_grad, mask=is_row)


@triton.jit
def _key_value_gradient_kernel(query, query_batch, query_head, query_token,
                               key, key_batch, key_head, key_token,
                               value, value_batch, value_head, value_token,
                               upstream, upstream_batch, upstream_head,
                               upstream_token,
                               grad_key, grad_key_batch, grad_key_head,
                               grad_key_token,
                               grad_value, grad_value_batch, grad_value_head,
                               grad_value_token,
                               thresholds, logsumexps, mean_grads,
                               num_heads, num_tokens, scale,
                               HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
                               BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Gradients of a block of keys and values, from all queries in turn.

    Scores and all that follows are transposed, (keys, queries), so that none
    of them has to be for the products.
    """
    num_blocks = tl.cdiv(num_tokens, BLOCK_N)
    head = tl.program_id(0) // num_blocks
    keys = tl.program_id(0) % num_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    dims = tl.arange(0, BLOCK_D)
    query = _head(query, query_batch, query_head, head, num_heads)
    key = _head(key, key_batch, key_head, head, num_heads)
    value = _head(value, value_batch, value_head, head, num_heads)
    upstream = _head(upstream, upstream_batch, upstream_head, head, num_heads)
    grad_key = _head(grad_key, grad_key_batch, grad_key_head, head, num_heads)
    grad_value = _head(grad_value, grad_value_batch, grad_value_head, head,
                       num_heads)

    block_keys = _load(key, key_token, keys, dims, num_tokens, HEAD_DIM)
    values = _load(value, value_token, keys, dims, num_tokens, HEAD_DIM)
    grad_keys = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    grad_values = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for first in range(0, num_tokens, BLOCK_M):
        rows = first + tl.arange(0, BLOCK_M)
        statistics = head.to(tl.int64) * num_tokens + rows
        is_row = rows < num_tokens
        # No score reaches the threshold of a row that does not exist.
        threshold = tl.load(thresholds + statistics, mask=is_row,
                            other=float('inf'))
        logsumexp = tl.load(logsumexps + statistics, mask=is_row, other=0.)
        mean_grad = tl.load(mean_grads + statistics, mask=is_row, other=0.)
        queries = _load(query, query_token, rows, dims, num_tokens, HEAD_DIM)
        upstreams = _load(upstream, upstream_token, rows, dims, num_tokens,
                          HEAD_DIM)
        scores = _product(block_keys, tl.trans(queries)) * scale
        weights = tl.where(scores < threshold[None, :], 0.,
                           tl.exp(scores - logsumexp[None, :]))
        grad_values += _product(weights.to(upstreams.dtype), upstreams)
        grad_weights = _product(values, tl.trans(upstreams))
        grad_scores = weights * (grad_weights - mean_grad[None, :])
        grad_keys += _product(grad_scores.to(queries.dtype), queries)

    _store(grad_key, grad_key_token, keys, dims, num_tokens, HEAD_DIM,
           grad_keys * scale)
    _store(grad_value, grad_value_token, keys, dims, num_tokens, HEAD_DIM,
           grad_values)


def unsupported(query: Tensor) -> Optional[str]:
    """Why these kernels cannot take tensors like ``query``; None if they can.

    Returns:
        str, optional: The second half of a sentence.
    """
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
    """See :func:`mixedae_mm.ops.blockwise.forward`."""
    output = torch.empty_like(query)
    query, key, value = map(_with_contiguous_rows, (query, key, value))
    thresholds = query.new_empty(query.shape[:3], dtype=torch.float32)
    logsumexps = torch.empty_like(thresholds)
    grid, options = _row_launch(query)
    with _on_device_of(query):
        _forward_kernel[grid](
            *_strided(query), *_strided(key), *_strided(value),
            *_strided(output), thresholds, logsumexps, query.shape[1],
            query.shape[2], topk, scale, **options)
    return output, thresholds, logsumexps


def backward(grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor,
             thresholds: Tensor, logsumexps: Tensor,
             scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """See :func:`mixedae_mm.ops.blockwise.backward`."""
    grad_query, grad_key, grad_value = (
        torch.empty_like(query) for _ in range(3))
    inputs = tuple(map(_with_contiguous_rows,
                       (query, key, value, grad_output)))
    strided_inputs = tuple(item for tensor in inputs
                           for item in _strided(tensor))
    mean_grads = torch.empty_like(thresholds)
    statistics = (thresholds, logsumexps, mean_grads)
    num_heads, num_tokens = query.shape[1:3]
    with _on_device_of(query):
        grid, options = _row_launch(query)
        _query_gradient_kernel[grid](
            *strided_inputs, *_strided(grad_query), *statistics, num_heads,
            num_tokens, scale, **options)
        grid, options = _key_launch(query)
        _key_value_gradient_kernel[grid](
            *strided_inputs, *_strided(grad_key), *_strided(grad_value),
            *statistics, num_heads, num_tokens, scale, **options)
    return grad_query, grad_key, grad_value


def _with_contiguous_rows(tensor: Tensor) -> Tensor:
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _strided(tensor: Tensor) -> tuple:
    return (tensor, *tensor.stride()[:3])


def _on_device_of(tensor: Tensor):
    # Triton launches on the current device, and its interpreter on the CPU.
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _row_launch(query: Tensor) -> Tuple[tuple, dict]:
    """Grid and options of the kernels that hold whole rows of scores."""
    block_n = max(16, triton.next_power_of_2(query.shape[2]))
    block_m = 32 if block_n <= 256 else 16
    # A thread holds 32 scores of a block, at most 64, so that nothing spills.
    return _launch(query, block_m, dict(
        BLOCK_M=block_m, BLOCK_N=block_n, BLOCK_D=64 // query.element_size(),
        num_warps=8 if block_n >= 256 else 4, num_stages=1))


def _key_launch(query: Tensor) -> Tuple[tuple, dict]:
    """Grid and options of the kernel that goes through blocks of queries."""
    block_n = 64 if query.element_size() == 2 else 32
    return _launch(query, block_n, dict(
        BLOCK_M=32, BLOCK_N=block_n,
        BLOCK_D=max(16, triton.next_power_of_2(query.shape[3])),
        num_warps=4, num_stages=2))


def _launch(query: Tensor, block: int, options: dict) -> Tuple[tuple, dict]:
    batch_size, num_heads, num_tokens, head_dim = query.shape
    grid = (triton.cdiv(num_tokens, block) * batch_size * num_heads, )
    return grid, dict(options, HEAD_DIM=head_dim)
