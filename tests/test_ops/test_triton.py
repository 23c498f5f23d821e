"""The Triton kernels without a GPU: interpreted, and compiled for GPUs."""
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

triton = pytest.importorskip('triton', minversion='3.0')


def test_kernels_in_the_interpreter():
    """Runs interpreted_kernels.py, whose failures are in the output."""
    run = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider',
         Path(__file__).with_name('interpreted_kernels.py')],
        env=dict(os.environ, TRITON_INTERPRET='1'), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert run.returncode == 0, run.stdout


def compiled(kernel, options, dtype, compute_capability):
    """Compiles a kernel from the names of its arguments alone."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource
    launch = ('num_warps', 'num_stages')
    pointer = {torch.bfloat16: '*bf16', torch.float16: '*fp16',
               torch.float32: '*fp32'}[dtype]
    signature, constants, attributes = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        attributes[index, ] = [['tt.divisibility', 16]]
        if name in options:
            signature[name] = 'constexpr'
            constants[index, ] = options[name]
            del attributes[index, ]
        elif name in ('thresholds', 'logsumexps', 'mean_grads'):
            signature[name] = '*fp32'
        elif name in ('query', 'key', 'value', 'output', 'upstream', 'grad',
                      'grad_query', 'grad_key', 'grad_value'):
            signature[name] = pointer
        elif name == 'scale':
            signature[name] = 'fp32'
            del attributes[index, ]
        else:
            signature[name] = 'i32'
            if not name.endswith(('_batch', '_head', '_token')):
                del attributes[index, ]
    return triton.compile(
        ASTSource(kernel, signature, constants, attributes),
        target=GPUTarget('cuda', compute_capability, 32),
        options={name: options[name] for name in launch})


@pytest.mark.slow
@pytest.mark.parametrize('compute_capability', [80, 90])
@pytest.mark.parametrize('dtype, num_tokens, head_dim', [
    (torch.bfloat16, 197, 64), (torch.float16, 257, 80),
    (torch.bfloat16, 1024, 128), (torch.float32, 197, 128)
])
def test_kernels_compile_and_fit(compute_capability, dtype, num_tokens,
                                 head_dim):
    """Compiling for a GPU needs none. Hopper has 227 KiB of shared memory a
    block, the others that are supported 99 KiB or more."""
    shared_memory = (227 if compute_capability == 90 else 99) * 1024
    from mixedae_mm.ops.triton import kernel as triton_kernel
    query = torch.empty(2, 12, num_tokens, head_dim, dtype=dtype)
    assert triton_kernel.unsupported(query) is None
    capability = divmod(compute_capability, 10)
    launches = [(triton_kernel.forward_kernel, options) for *_, options in
                triton_kernel._forward_launches(query, capability)]
    fits = triton_kernel._fits(query, capability)
    if not fits:
        launches.append((triton_kernel.query_gradient_kernel,
                         triton_kernel._row_launch(query)[1]))
    launches.append((triton_kernel.gradients_kernel,
                     triton_kernel._gradients_launch(query, fits)[1]))
    for kernel, options in launches:
        binary = compiled(kernel, options, dtype, compute_capability)
        assert 0 < binary.metadata.shared <= shared_memory
