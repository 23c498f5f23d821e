"""What the fused kernels of homologous attention share."""
import triton
import triton.language as tl

# A GPU computes powers of two; statistics are natural logarithms.
LOG2_E = tl.constexpr(1.4426950408889634)
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def head_of(tensor, stride_batch, stride_head, head, num_heads):
    """Where a head begins; ``head`` counts through the batch."""
    return (tensor + (head // num_heads).to(tl.int64) * stride_batch +
            (head % num_heads).to(tl.int64) * stride_head)


@triton.jit
def load_block(matrix, stride, rows, columns, num_rows, num_columns):
    """Read (rows, columns) of a matrix, 0 outside of it."""
    return tl.load(
        matrix + rows[:, None] * stride + columns[None, :],
        mask=(rows[:, None] < num_rows) & (columns[None, :] < num_columns),
        other=0.)


@triton.jit
def store(matrix, stride, rows, columns, num_rows, num_columns, numbers):
    """Write (rows, columns) numbers into a matrix, in its dtype, not outside of it."""
    tl.store(
        matrix + rows[:, None] * stride + columns[None, :],
        numbers.to(matrix.dtype.element_ty),
        mask=(rows[:, None] < num_rows) & (columns[None, :] < num_columns))


@triton.jit
def load_statistics(thresholds, logsumexps, head, rows, num_tokens):
    """Threshold and log-sum-exp of queries; one that does not exist keeps no key."""
    place = head.to(tl.int64) * num_tokens + rows
    is_row = rows < num_tokens
    threshold = tl.load(thresholds + place, mask=is_row, other=float('inf'))
    logsumexp = tl.load(logsumexps + place, mask=is_row, other=0.)
    return threshold, logsumexp


@triton.jit
def product(left, right):
    """Matrix product in float32; float32 inputs keep the precision of float32."""
    return tl.dot(left, right, input_precision='tf32x3')


@triton.jit
def all_products(left, left_stride, rows, right, right_stride, columns,
                 num_tokens, HEAD_DIM: tl.constexpr, BLOCK_D: tl.constexpr):
    """``left @ right.T`` for rows of two (N, D) matrices, BLOCK_D at a time."""
    products = tl.zeros((rows.shape[0], columns.shape[0]), tl.float32)
    for first in range(0, HEAD_DIM, BLOCK_D):
        dims = first + tl.arange(0, BLOCK_D)
        one = load_block(left, left_stride, rows, dims, num_tokens, HEAD_DIM)
        other = load_block(right, right_stride, columns, dims, num_tokens, HEAD_DIM)
        products += product(one, tl.trans(other))
    return products


@triton.jit
def softmax_weights(scores, threshold, logsumexp, scale):
    """``exp(scores * scale - logsumexp)`` where a score is kept, 0 elsewhere."""
    is_kept = tl.where(scores < threshold, 0., 1.)
    return is_kept * tl.exp2(scores * (scale * LOG2_E) - logsumexp * LOG2_E)
