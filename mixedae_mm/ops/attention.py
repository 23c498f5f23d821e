"""The entry to homologous attention (Eq. 6): checks, and the fastest path.

This is the only place that states what a path must do. A path is a module with
two functions:

``forward(query, key, value, topk, scale) -> output, thresholds, logsumexps``
    Eq. 6. The last two are statistics of each query, ``(B, heads, N)``. Products
    ``q k^T`` (without the scale) below the *threshold* are dropped, all others are
    kept. The *log-sum-exp* is that of the kept scores,
    ``ln(sum(exp(scale * q k^T)))``.

``backward(grad_output, query, key, value, thresholds, logsumexps, scale)``
    The gradients of query, key and value. It computes the products again and
    chooses keys by the threshold, without a search for the ``topk`` largest.

The backward takes the path of the forward: products that are computed in another
way could differ in the last bit, and so could the choice of keys. Inputs and
``grad_output`` have any strides, 0 included; results have the layout of
:mod:`.layout`, whatever the strides of the inputs. Statistics, products and
softmax are float32 for half precision and float32, and float64 for float64.
"""
import functools
from math import inf
from types import ModuleType
from typing import Any, Dict, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..utils.errors import ConfigurationError
from ..utils.messages import warn
from . import blockwise, cpu_kernel
from .layout import new_heads, new_statistics


def homologous_attention(query: Tensor,
                         key: Tensor,
                         value: Tensor,
                         topk: int,
                         scale: Optional[float] = None) -> Tensor:
    """Homologous attention, Eq. 6: ``softmax(TopK(q k^T * scale)) v``.

    Per query and head only the ``topk`` largest scores are kept; keys that
    tie with the ``topk``-th largest are all kept. Scores and softmax are
    float32 for float16 and bfloat16 inputs, under autocast too. With
    ``topk == N`` this is plain attention.

    Args:
        query, key, value (Tensor): (B, heads, N, D) with any strides, one
            floating-point dtype, one device.
        topk (int): K, keys kept per query and head, from 1 to N.
        scale (float, optional): Factor of the scores, positive. Defaults to
            1 / sqrt(D).

    Returns:
        Tensor: (B, heads, N, D), of the inputs' dtype.

    Raises:
        ConfigurationError: If ``topk`` is not an integer from 1 to N, ``scale`` is not
            positive and finite, or the tensors are not 4-dimensional, of one shape,
            one floating-point dtype and one device.
    """
    _check_arguments(query, key, value, topk)
    if scale is None:
        scale = query.shape[-1]**-0.5
    elif not 0 < scale < inf:
        raise ConfigurationError(
            f'scale of homologous_attention must be a positive number, got {scale!r}.')
    if topk == query.shape[-2]:
        return F.scaled_dot_product_attention(query, key, value, scale=scale)
    return _attention(query, key, value, topk, scale)[0]


def _check_arguments(query: Tensor, key: Tensor, value: Tensor, topk: int) -> None:
    if query.ndim != 4 or not (query.shape == key.shape == value.shape):
        raise ConfigurationError(
            'homologous_attention needs query, key and value of one shape '
            f'(B, heads, N, D), got {tuple(query.shape)}, {tuple(key.shape)} '
            f'and {tuple(value.shape)}.')
    if (not query.is_floating_point()
            or not (query.dtype == key.dtype == value.dtype)
            or not (query.device == key.device == value.device)):
        raise ConfigurationError(
            'homologous_attention needs query, key and value of the same '
            'floating-point dtype on the same device, got '
            f'{query.dtype} on {query.device}, {key.dtype} on {key.device} '
            f'and {value.dtype} on {value.device}.')
    if (not isinstance(topk, int) or isinstance(topk, bool)
            or not 1 <= topk <= key.shape[-2]):
        raise ConfigurationError(
            'topk of homologous_attention must be an integer from 1 to the '
            f'number of keys, {key.shape[-2]}, got {topk!r}.')


# Paths by name: an operator takes strings, not modules.
_PATHS: Dict[str, ModuleType] = {
    path.__name__: path for path in (cpu_kernel, blockwise)}


def _path(query: Tensor) -> ModuleType:
    """The fastest path for tensors like ``query``."""
    if cpu_kernel.supports(query):
        return cpu_kernel
    if query.is_cuda and query.numel() > 0:
        triton_kernel: Any = _triton_kernel()
        reason = ('Triton is not installed' if triton_kernel is None else
                  triton_kernel.unsupported(query))
        if reason is None:
            return triton_kernel
        _log_fallback(reason)
    return blockwise


@functools.lru_cache(maxsize=None)
def _triton_kernel() -> Optional[ModuleType]:
    try:
        from .triton import kernel as triton_kernel
    except ModuleNotFoundError as error:
        if error.name != 'triton':
            raise
        return None
    _PATHS[triton_kernel.__name__] = triton_kernel
    return triton_kernel


@functools.lru_cache(maxsize=None)
def _log_fallback(reason: str) -> None:
    warn('homologous_attention runs on the GPU without its fused kernel, slower and '
         f'with more memory, because {reason}.')


# Parts of the operator. They switch autocast off, which would compute the scores
# in half precision.


def _forward(query: Tensor, key: Tensor, value: Tensor, topk: int,
             scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(query.device.type, enabled=False):
        return _path(query).forward(query, key, value, topk, scale)


def _backward(grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor,
              thresholds: Tensor, logsumexps: Tensor, scale: float,
              path: str) -> Tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(query.device.type, enabled=False):
        return _PATHS[path].backward(grad_output, query, key, value,
                                     thresholds.contiguous(),
                                     logsumexps.contiguous(), scale)


def _forward_shapes(query, key, value, topk, scale):
    return (new_heads(query), *new_statistics(query))


def _backward_shapes(grad_output, query, key, value, thresholds, logsumexps,
                     scale, path):
    return tuple(new_heads(query) for _ in range(3))


def _save_for_backward(ctx, inputs, output) -> None:
    query, key, value, _, ctx.scale = inputs
    _, thresholds, logsumexps = output
    ctx.path = _path(query).__name__  # right after the forward: the same path
    ctx.save_for_backward(query, key, value, thresholds, logsumexps)


def _gradients(ctx, grad_output, *_):
    return (*_attention_backward(grad_output, *ctx.saved_tensors, ctx.scale,
                                 ctx.path), None, None)


if hasattr(torch.library, 'custom_op'):
    # An operator that torch.compile leaves whole.
    _attention: Any = torch.library.custom_op(
        'mixedae_mm::homologous_attention', _forward, mutates_args=())
    _attention.register_fake(_forward_shapes)
    _attention.register_autograd(_gradients, setup_context=_save_for_backward)
    _attention_backward: Any = torch.library.custom_op(
        'mixedae_mm::homologous_attention_backward', _backward,
        mutates_args=())
    _attention_backward.register_fake(_backward_shapes)
else:  # PyTorch before 2.4

    class _HomologousAttention(torch.autograd.Function):
        forward = staticmethod(_forward)
        setup_context = staticmethod(_save_for_backward)
        backward = staticmethod(_gradients)

    _attention = _HomologousAttention.apply
    _attention_backward = _backward
