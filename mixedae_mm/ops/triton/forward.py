"""Homologous attention's forward, fused."""
import triton
import triton.language as tl

from .parts import (LN_2, all_products, head_of, load_block, product, softmax_weights,
                    store)
from .search import separating_thresholds


@triton.jit
def forward_kernel(query, query_batch, query_head, query_token,
                   key, key_batch, key_head, key_token,
                   value, value_batch, value_head, value_token,
                   output, output_batch, output_head, output_token,
                   thresholds, logsumexps,
                   num_heads, num_tokens, topk, scale, first_row, num_blocks,
                   HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
                   BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """One block of queries: ``num_blocks`` per head, from ``first_row`` on."""
    head = tl.program_id(0) // num_blocks
    rows = (first_row + tl.program_id(0) % num_blocks * BLOCK_M +
            tl.arange(0, BLOCK_M))
    keys = tl.arange(0, BLOCK_N)
    query = head_of(query, query_batch, query_head, head, num_heads)
    key = head_of(key, key_batch, key_head, head, num_heads)
    value = head_of(value, value_batch, value_head, head, num_heads)
    output = head_of(output, output_batch, output_head, head, num_heads)

    # The search needs no scale, which is positive.
    scores = all_products(query, query_token, rows, key, key_token, keys,
                          num_tokens, HEAD_DIM, BLOCK_D)
    low = tl.min(scores, 1)  # or lower: where there is no key it is 0
    scores = tl.where(keys[None, :] < num_tokens, scores, float('-inf'))
    threshold = separating_thresholds(scores, low, topk)
    largest = tl.max(scores, 1) * scale
    weights = softmax_weights(scores, threshold[:, None], largest[:, None],
                              scale)
    total = tl.sum(weights, 1)
    weights = weights.to(output.dtype.element_ty)
    for first in range(0, HEAD_DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        values = load_block(value, value_token, keys, dims, num_tokens, HEAD_DIM)
        store(output, output_token, rows, dims, num_tokens, HEAD_DIM,
              product(weights, values) / total[:, None])
    statistics = head.to(tl.int64) * num_tokens + rows
    is_row = rows < num_tokens
    tl.store(thresholds + statistics, threshold, mask=is_row)
    tl.store(logsumexps + statistics, largest + tl.log2(total) * LN_2,
             mask=is_row)
