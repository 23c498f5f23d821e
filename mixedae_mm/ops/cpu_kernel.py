"""Homologous attention on the CPU: the Python side of cpu_kernel.c."""
import ctypes
import functools
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any, Optional, Tuple

import torch
from torch import Tensor

from ..utils.messages import warn
from .layout import new_heads, new_statistics, with_contiguous_rows

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class _Problem(ctypes.Structure):
    """problem_t of cpu_kernel.c."""
    _fields_ = [('batch_size', ctypes.c_int64), ('num_heads', ctypes.c_int64),
                ('num_tokens', ctypes.c_int64), ('head_dim', ctypes.c_int64),
                ('topk', ctypes.c_int64), ('scale', ctypes.c_float),
                ('num_threads', ctypes.c_int32)]


class _Heads(ctypes.Structure):
    """heads_t of cpu_kernel.c."""
    _fields_ = [('data', ctypes.c_void_p), ('batch', ctypes.c_int64),
                ('head', ctypes.c_int64), ('token', ctypes.c_int64)]


def supports(query: Tensor) -> bool:
    """Whether this path can compute with tensors like ``query``."""
    return (query.device.type == 'cpu' and query.dtype in _DTYPES
            and _library() is not None)


def forward(query: Tensor, key: Tensor, value: Tensor, topk: int,
            scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """See :mod:`mixedae_mm.ops.attention`; computes in float32."""
    dtype = query.dtype
    query, key, value = map(_as_float32_rows, (query, key, value))
    output = new_heads(query)
    thresholds, logsumexps = new_statistics(query)
    _run('forward', query, topk, scale, _heads(query), _heads(key), _heads(value),
         _heads(output), thresholds.data_ptr(), logsumexps.data_ptr())
    return output.to(dtype), thresholds, logsumexps


def backward(grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor,
             thresholds: Tensor, logsumexps: Tensor,
             scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """See :mod:`mixedae_mm.ops.attention`."""
    dtype = query.dtype
    grad_output, query, key, value = map(_as_float32_rows,
                                         (grad_output, query, key, value))
    grad_query, grad_key, grad_value = (new_heads(query) for _ in range(3))
    _run('backward', query, 0, scale, _heads(grad_output), _heads(query),
         _heads(key), _heads(value), thresholds.data_ptr(), logsumexps.data_ptr(),
         _heads(grad_query), _heads(grad_key), _heads(grad_value))
    return grad_query.to(dtype), grad_key.to(dtype), grad_value.to(dtype)


def _as_float32_rows(tensor: Tensor) -> Tensor:
    return with_contiguous_rows(tensor.float())


def _heads(tensor: Tensor) -> _Heads:
    return _Heads(tensor.data_ptr(), *tensor.stride()[:3])


def _run(function: str, query: Tensor, topk: int, scale: float,
         *arguments: Any) -> None:
    """Call the library with the sizes and memory for each thread to work in."""
    library = _library()
    assert library is not None, 'supports() was not asked'
    num_threads = torch.get_num_threads()
    problem = _Problem(*query.shape, topk, scale, num_threads)
    memory = query.new_zeros(num_threads, library.workspace_floats(problem))
    getattr(library, function)(problem, memory.data_ptr(), *arguments)


@functools.lru_cache(maxsize=None)
def _library() -> Optional[ctypes.CDLL]:
    """Compile cpu_kernel.c for this processor; None, and a warning, if that fails.

    It is compiled once in every process that needs it, in about half a
    second, and nothing is left on disk: a cached library could be stale, or be
    found by another kind of processor on a shared home directory. OpenMP's
    runtime is left out of the link on purpose: the library takes its symbols from
    the one that PyTorch has loaded, so that both share one pool of threads.
    """
    compiler = shlex.split(os.environ.get('CC', 'cc'))
    source = str(Path(__file__).with_name('cpu_kernel.c'))
    try:
        with tempfile.TemporaryDirectory() as folder:
            compiled, linked = f'{folder}/kernel.o', f'{folder}/kernel.so'
            for arguments in (
                ['-O3', '-march=native', '-fPIC', '-fopenmp', '-c', source,
                 '-o', compiled],
                ['-shared', compiled, '-lm', '-o', linked]):
                subprocess.run([*compiler, *arguments], check=True,
                               capture_output=True, text=True)
            library = ctypes.CDLL(linked)
    except (OSError, subprocess.CalledProcessError) as error:
        warn('homologous_attention runs on the CPU without its compiled kernel, at '
             'several times the cost, because it could not be compiled: '
             f'{getattr(error, "stderr", None) or error}')
        return None
    pointer = ctypes.c_void_p
    library.workspace_floats.argtypes = (_Problem, )
    library.workspace_floats.restype = ctypes.c_int64
    library.forward.argtypes = (_Problem, pointer, *[_Heads] * 4, pointer,
                                pointer)
    library.forward.restype = None
    library.backward.argtypes = (_Problem, pointer, *[_Heads] * 4, pointer,
                                 pointer, *[_Heads] * 3)
    library.backward.restype = None
    return library
