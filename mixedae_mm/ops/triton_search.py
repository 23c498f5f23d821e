"""The K-th largest score of each row, on chip."""
import triton
import triton.language as tl


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
def separating_thresholds(scores, is_key, topk):
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
        # Counted in float32: a comparison and an addition a score, where
        # integers take three instructions.
        kept = tl.sum(tl.where(scores < middle[:, None], 0., 1.), 1)
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
