"""The Triton kernels on the CPU, in Triton's interpreter.

Not collected by itself: Triton decides when a kernel is defined whether it will
be interpreted, so test_triton.py runs this file in a process of its own.
"""
import numpy as np
import pytest
import torch
import triton.language as tl
from attention_cases import exact_inputs
from path_contract import *  # noqa: F403 the tests
from path_contract import assert_equals_the_reference
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


def test_more_tokens_than_the_fused_backward_takes(path):
    inputs = exact_inputs(1, 1, 257, 64, torch.float16)
    assert_equals_the_reference(path, *inputs, topk=64)


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
