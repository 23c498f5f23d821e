"""The Triton kernels on the CPU, in Triton's interpreter.

Not collected by itself: Triton decides when a kernel is defined whether it will
be interpreted, so test_triton.py runs this file in a process of its own.
"""
import numpy as np
import pytest
import torch
import triton.language as tl
from attention_cases import (assert_equal_up_to_rounding, computed_by, exact_inputs,
                             expected)
from path_contract import *  # noqa: F403 the tests
from triton.runtime import interpreter

from mixedae_mm.ops.triton import kernel as triton_kernel

# Rows of NaN and of masked keys overflow on the way; NumPy warns, GPUs don't.
pytestmark = pytest.mark.filterwarnings('ignore::RuntimeWarning')


@pytest.fixture
def path():
    """In half precision the backward is the fused kernel, in float32 two."""
    return triton_kernel


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
