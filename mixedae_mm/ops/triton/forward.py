"""Homologous attention's forward, fused, with its search for the K-th score."""
import triton
import triton.language as tl

from .parts import (LN_2, all_products, head_of, load_block, product, softmax_weights,
                    store)


# Not compiled anew for a K of 1 or a multiple of 16: it is only compared with.
@triton.jit(do_not_specialize=['topk', 'first_row', 'num_blocks'])
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


@triton.jit
def _ordered_integers(numbers):
    """Integers that have the same order as the floats they stand for."""
    bits = numbers.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def _from_ordered_integers(integers):
    bits = integers ^ ((integers >> 31) & 0x7FFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def separating_thresholds(scores, low, topk):
    """Find one threshold per row: scores below it are dropped, all others kept.

    By bisection, all rows together, until each keeps ``topk`` scores or
    has only ties left. NaN is never below, so it is kept and reaches the
    output. Scores are (rows, columns) float32, -inf where there is no key;
    ``low``, (rows,), is not above any score of the row.
    """
    high = tl.max(scores, 1)
    # `low` keeps at least topk scores, anything above `high` fewer.
    searching = low < high
    # Halving the value is quick. A block of 64 rows takes about 15 steps; the
    # first 12 do not check whether all rows have ended.
    for _ in range(12):
        middle = 0.5 * low + 0.5 * high
        kept = _count(scores, middle)
        low = tl.where(searching & (kept >= topk), middle, low)
        high = tl.where(searching & (kept < topk), middle, high)
        searching = searching & (low < high) & (kept != topk)
    step = 0
    while tl.max(searching.to(tl.int32), 0) > 0:
        # Halving the integer bounds the search where scores tie, are infinite
        # or tiny.
        middle = 0.5 * low + 0.5 * high
        is_inside = (middle > low) & (middle < high) & (step < 8)
        low_integer = _ordered_integers(low)
        high_integer = _ordered_integers(high)
        # Half of their sum, rounded up, without overflow.
        middle_integer = ((low_integer | high_integer) -
                          ((low_integer ^ high_integer) >> 1))
        middle = tl.where(is_inside, middle,
                          _from_ordered_integers(middle_integer))
        kept = _count(scores, middle)
        below_middle = _from_ordered_integers(_ordered_integers(middle) - 1)
        low = tl.where(searching & (kept >= topk), middle, low)
        high = tl.where(searching & (kept < topk), below_middle, high)
        searching = searching & (low < high) & (kept != topk)
        step += 1
    return _middle_of_the_gap(scores, low)


@triton.jit
def _count(scores, threshold):
    """How many scores of a row are not below its threshold.

    Counted in float32, which takes two instructions per score, a comparison
    and an addition; integers take three.
    """
    return tl.sum(tl.where(scores < threshold[:, None], 0., 1.), 1)


@triton.jit
def _middle_of_the_gap(scores, low):
    """Halfway between the smallest score not below ``low`` and the largest below it.

    It is that smallest score where a float does not lie between the two.

    Differences to ``low``, read as integers: the smallest unsigned one is the
    nearest from above, the smallest signed one the nearest from below. That takes
    half the instructions of two masked extremes.
    """
    difference = (scores - low[:, None]).to(tl.int32, bitcast=True)
    above = tl.min(difference.to(tl.uint32, bitcast=True), 1)
    below = tl.min(difference, 1)
    above = above.to(tl.float32, bitcast=True)
    below = tl.where(below < 0, below.to(tl.float32, bitcast=True),
                     float('-inf'))
    middle = low + 0.5 * (above + below)
    return tl.where(middle > low + below, middle, low + above)
