"""Homologous attention's backward, fused.

One kernel where a head's keys, values and their gradients fit on chip; two
where they do not.
"""
import triton
import triton.language as tl

from .parts import (all_products, head_of, load_block, load_statistics, product,
                    softmax_weights, store)


@triton.jit
def gradients_kernel(query, query_batch, query_head, query_token,
                     key, key_batch, key_head, key_token,
                     value, value_batch, value_head, value_token,
                     upstream, upstream_batch, upstream_head, upstream_token,
                     grad_query, grad_query_batch, grad_query_head,
                     grad_query_token,
                     grad_key, grad_key_batch, grad_key_head, grad_key_token,
                     grad_value, grad_value_batch, grad_value_head,
                     grad_value_token,
                     thresholds, logsumexps, mean_grads, num_heads, num_tokens, scale,
                     HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr,
                     BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
                     HAS_ALL_KEYS: tl.constexpr):
    """Gradients of a block of keys and values, from all queries in turn.

    If the block has all keys of the head, also those of the queries; otherwise
    ``query_gradient_kernel`` has computed them, and each query's sum(P * dP).
    Scores and all that follows are transposed, (keys, queries): the products
    take them as they are.
    """
    num_blocks = 1 if HAS_ALL_KEYS else tl.cdiv(num_tokens, BLOCK_N)
    head = tl.program_id(0) // num_blocks
    keys = tl.program_id(0) % num_blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    dims = tl.arange(0, BLOCK_D)
    query = head_of(query, query_batch, query_head, head, num_heads)
    key = head_of(key, key_batch, key_head, head, num_heads)
    value = head_of(value, value_batch, value_head, head, num_heads)
    upstream = head_of(upstream, upstream_batch, upstream_head, head, num_heads)
    grad_query = head_of(grad_query, grad_query_batch, grad_query_head, head,
                         num_heads)
    grad_key = head_of(grad_key, grad_key_batch, grad_key_head, head, num_heads)
    grad_value = head_of(grad_value, grad_value_batch, grad_value_head, head,
                         num_heads)

    block_keys = load_block(key, key_token, keys, dims, num_tokens, HEAD_DIM)
    values = load_block(value, value_token, keys, dims, num_tokens, HEAD_DIM)
    grad_keys = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    grad_values = tl.zeros((BLOCK_N, BLOCK_D), tl.float32)
    for first in range(0, num_tokens, BLOCK_M):
        rows = first + tl.arange(0, BLOCK_M)
        threshold, logsumexp = load_statistics(thresholds, logsumexps, head, rows,
                                               num_tokens)
        if not HAS_ALL_KEYS:
            mean_grad = tl.load(mean_grads + head.to(tl.int64) * num_tokens + rows,
                                mask=rows < num_tokens, other=0.)
        queries = load_block(query, query_token, rows, dims, num_tokens, HEAD_DIM)
        upstreams = load_block(upstream, upstream_token, rows, dims, num_tokens,
                               HEAD_DIM)
        scores = product(block_keys, tl.trans(queries))
        if HAS_ALL_KEYS:
            scores = tl.where(keys[:, None] < num_tokens, scores, float('-inf'))
        weights = softmax_weights(scores, threshold[None, :],
                                  logsumexp[None, :], scale)
        grad_values += product(weights.to(upstreams.dtype), upstreams)
        # Gradient of the softmax: P * (dP - sum(P * dP)).
        grad_weights = product(values, tl.trans(upstreams))
        if HAS_ALL_KEYS:
            mean_grad = tl.sum(weights * grad_weights, 0)
        grad_scores = weights * (grad_weights - mean_grad[None, :])
        grad_scores = grad_scores.to(queries.dtype)
        grad_keys += product(grad_scores, queries)
        if HAS_ALL_KEYS:
            grad_queries = product(tl.trans(block_keys), grad_scores)
            store(grad_query, grad_query_token, rows, dims, num_tokens, HEAD_DIM,
                  tl.trans(grad_queries) * scale)

    store(grad_key, grad_key_token, keys, dims, num_tokens, HEAD_DIM,
          grad_keys * scale)
    store(grad_value, grad_value_token, keys, dims, num_tokens, HEAD_DIM,
          grad_values)


@triton.jit
def query_gradient_kernel(query, query_batch, query_head, query_token,
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
    query = head_of(query, query_batch, query_head, head, num_heads)
    key = head_of(key, key_batch, key_head, head, num_heads)
    value = head_of(value, value_batch, value_head, head, num_heads)
    upstream = head_of(upstream, upstream_batch, upstream_head, head, num_heads)
    grad = head_of(grad, grad_batch, grad_head, head, num_heads)
    threshold, logsumexp = load_statistics(thresholds, logsumexps, head, rows,
                                           num_tokens)

    scores = all_products(query, query_token, rows, key, key_token, keys,
                          num_tokens, HEAD_DIM, BLOCK_D)
    scores = tl.where(keys[None, :] < num_tokens, scores, float('-inf'))
    weights = softmax_weights(scores, threshold[:, None], logsumexp[:, None],
                              scale)
    # Gradient of the softmax: P * (dP - sum(P * dP)).
    grad_weights = all_products(upstream, upstream_token, rows, value,
                                value_token, keys, num_tokens, HEAD_DIM,
                                BLOCK_D)
    mean_grad = tl.sum(weights * grad_weights, 1)
    grad_scores = weights * (grad_weights - mean_grad[:, None]) * scale
    grad_scores = grad_scores.to(grad.dtype.element_ty)
    for first in range(0, HEAD_DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        block_keys = load_block(key, key_token, keys, dims, num_tokens, HEAD_DIM)
        store(grad, grad_token, rows, dims, num_tokens, HEAD_DIM,
              product(grad_scores, block_keys))
    tl.store(mean_grads + head.to(tl.int64) * num_tokens + rows, mean_grad,
             mask=rows < num_tokens)
