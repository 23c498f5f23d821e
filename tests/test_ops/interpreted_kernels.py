"""The Triton kernels on the CPU, in Triton's interpreter.

Not collected by itself: Triton decides when a kernel is defined whether it will
be interpreted, so test_triton.py runs this file in a process of its own.
"""
import numpy as np
import pytest
import torch
import triton.language as tl
from attention_cases import (LAYOUTS_OF_FOUR, assert_equal_up_to_rounding,
                             assert_statistics, computed_by, exact_inputs,
                             expected, laid_out)
from triton.runtime import interpreter

from mixedae_mm.ops import blockwise, topk_mask
from mixedae_mm.ops.triton import kernel as triton_kernel

# Rows of NaN and of masked keys overflow on the way; NumPy warns, GPUs don't.
pytestmark = pytest.mark.filterwarnings('ignore::RuntimeWarning')


@pytest.fixture(autouse=True)
def products_of_bfloat16(monkeypatch):
    """The interpreter multiplies bfloat16 as if its bits were integers."""
    multiply = interpreter.InterpreterBuilder.create_dot

    def widened(handle):
        if handle.dtype.scalar != tl.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return interpreter.TensorHandle(bits.view(np.float32), tl.float32)

    monkeypatch.setattr(
        interpreter.InterpreterBuilder, 'create_dot',
        lambda self, left, right, *others: multiply(
            self, widened(left), widened(right), *others))


@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize('num_tokens, head_dim, topk', [
    (37, 32, 9), (50, 64, 12), (16, 80, 15), (33, 128, 1), (2, 24, 1)
])
def test_equals_the_reference(dtype, num_tokens, head_dim, topk):
    inputs = exact_inputs(1, 2, num_tokens, head_dim, dtype)
    assert_equal_up_to_rounding(computed_by(triton_kernel, *inputs, topk),
                                expected(*inputs, topk))


@pytest.mark.parametrize('num_tokens', [197, 257])
def test_rows_of_a_vision_transformer(num_tokens):
    inputs = exact_inputs(1, 1, num_tokens, 64, torch.float16)
    assert_equal_up_to_rounding(
        computed_by(triton_kernel, *inputs, num_tokens // 4),
        expected(*inputs, num_tokens // 4))


def test_every_k():
    inputs = exact_inputs(1, 1, 7, 16)
    for topk in range(1, 8):
        assert_equal_up_to_rounding(computed_by(triton_kernel, *inputs, topk),
                                    expected(*inputs, topk))


@pytest.mark.parametrize('topk', [1, 4, 7])
def test_ties_stay(topk):
    query, key, value, upstream = exact_inputs(1, 2, 21, 16)
    key = key[:, :, torch.arange(21) // 3]  # each key three times
    inputs = query, key, value, upstream
    assert_equal_up_to_rounding(computed_by(triton_kernel, *inputs, topk),
                                expected(*inputs, topk))


def test_keys_that_all_tie_are_all_kept():
    query, key, value, _ = exact_inputs(1, 1, 21, 16)
    key = key[:, :, :1].expand_as(key)
    output, *_ = triton_kernel.forward(query, key, value, 4, 0.25)
    torch.testing.assert_close(
        output, value.mean(2, keepdim=True).expand_as(output))


@pytest.mark.parametrize('topk', [1, 3, 5, 6, 10])
def test_awkward_scores_are_selected_like_topk(topk):
    """Zeros of both signs, neighbours, ties and numbers of every size."""
    scores = torch.tensor([
        0., -0., 1e-38, -1e-38, 1., 1., 1.0000001, 0.99999994, -15., 3e-20, 20.
    ])
    query, key = torch.zeros(2, 11, 11)
    query[:, 0] = 1
    key[:, 0] = scores
    output, *_ = triton_kernel.forward(
        *(t[None, None] for t in (query, key, torch.eye(11))), topk, 1.)
    kept = topk_mask(scores, topk)
    assert torch.equal(output[0, 0] > 0, kept.expand(11, 11))


def test_nan_reaches_the_output():
    query, key, value, _ = exact_inputs(1, 2, 9, 16)
    key[0, 1, 5] = float('nan')
    output, *_ = triton_kernel.forward(query, key, value, 3, 1.)
    assert output[0, 0].isfinite().all()
    assert output[0, 1].isnan().all()


def test_views_of_a_fused_projection():
    query, key, value, upstream = exact_inputs(2, 2, 20, 16)
    views = torch.stack((query, key, value)).permute(
        1, 3, 0, 2, 4).contiguous().permute(2, 0, 3, 1, 4)
    strided_upstream = upstream.transpose(1, 2).contiguous().transpose(1, 2)
    for ours, theirs in zip(
            computed_by(triton_kernel, *views, strided_upstream, 5),
            computed_by(triton_kernel, query, key, value, upstream, 5)):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
def test_strides_make_no_difference(layouts):
    inputs = exact_inputs(2, 2, 20, 16)
    for ours, theirs in zip(
            computed_by(triton_kernel, *laid_out(inputs, layouts), 5),
            computed_by(triton_kernel, *inputs, 5)):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
def test_expanded_inputs_and_gradients(dtype):
    """float32 takes two kernels in the backward, float16 the fused one."""
    query, key, value, upstream = exact_inputs(2, 2, 20, 16, dtype)
    inputs = [query[:, :1].expand_as(query), key[:1].expand_as(key), value,
              upstream[:1, :1, :1, :1].expand_as(upstream)]
    assert_equal_up_to_rounding(
        computed_by(triton_kernel, *inputs, 5),
        expected(*(tensor.contiguous() for tensor in inputs), 5))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float16], ids=str)
def test_statistics_are_what_the_contract_says(dtype):
    query, key, value, upstream = exact_inputs(1, 2, 20, 16, dtype)
    output, *statistics = triton_kernel.forward(query, key, value, 5, 0.25)
    assert_statistics(query, key, 5, 0.25, *statistics)
    gradients = blockwise.backward(upstream, query, key, value, *statistics, 0.25)
    assert_equal_up_to_rounding(
        (output, *gradients), expected(query, key, value, upstream, 5))


@pytest.mark.parametrize('shape, dtype, reason', [
    ((1, 1, 1025, 64), torch.float16, '1025 tokens'),
    ((1, 1, 257, 64), torch.float32, '257 tokens'),
    ((1, 1, 9, 129), torch.float16, 'head dimension of 129'),
    ((1, 1, 9, 64), torch.float64, 'float64'),
    ((1, 1, 1024, 128), torch.bfloat16, None),
])
def test_what_is_unsupported(shape, dtype, reason):
    said = triton_kernel.unsupported(torch.empty(shape, dtype=dtype))
    assert (said is None) if reason is None else (reason in said)
