"""Homologous attention's forward, fused."""
import triton
import triton.language as tl

from .triton_parts import all_products, head_of, load, product, store
from .triton_search import separating_thresholds


@triton.jit
def forward_kernel(query, query_batch, query_head, query_token,
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
    query = head_of(query, query_batch, query_head, head, num_heads)
    key = head_of(key, key_batch, key_head, head, num_heads)
    value = head_of(value, value_batch, value_head, head, num_heads)
    output = head_of(output, output_batch, output_head, head, num_heads)

    scores = all_products(query, query_token, rows, key, key_token, keys,
                           num_tokens, HEAD_DIM, BLOCK_D) * scale
    is_key = keys[None, :] < num_tokens
    scores = tl.where(is_key, scores, float('-inf'))
    threshold = separating_thresholds(scores, is_key, topk)
    largest = tl.max(scores, 1)
    weights = tl.where(scores < threshold[:, None], 0.,
                       tl.exp(scores - largest[:, None]))
    total = tl.sum(weights, 1)
    weights = (weights / total[:, None]).to(output.dtype.element_ty)
    for first in range(0, HEAD_DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        values = load(value, value_token, keys, dims, num_tokens, HEAD_DIM)
        store(output, output_token, rows, dims, num_tokens, HEAD_DIM,
               product(weights, values))
    statistics = head.to(tl.int64) * num_tokens + rows
    is_row = rows < num_tokens
    tl.store(thresholds + statistics, threshold, mask=is_row)
    tl.store(logsumexps + statistics, largest + tl.log(total), mask=is_row)
