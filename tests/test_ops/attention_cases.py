"""Inputs for homologous attention, and what it has to make of them."""
import torch

from mixedae_mm.ops.reference import homologous_attention_reference


def exact_inputs(batch_size, num_heads, num_tokens, head_dim,
                 dtype=torch.float32, device='cpu', seed=0):
    """Query, key, value and upstream gradient, whose scores are exact.

    Queries and keys are multiples of 1 / 64 with seven bits. Every dtype holds
    them, and every sum of their products is exact in float32, in any order: so
    a path and its float64 reference select from the same scores.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (2, batch_size, num_heads, num_tokens, head_dim)
    query, key = torch.randn(shape, generator=generator).mul(64).round().clamp(
        -127, 127).div(64)
    value, upstream = torch.randn(shape, generator=generator)
    return [
        tensor.to(dtype).to(device) for tensor in (query, key, value, upstream)
    ]


def expected(query, key, value, upstream, topk, scale=None):
    """Output and gradients of the reference, in float64."""
    inputs = [tensor.detach().double().requires_grad_()
              for tensor in (query, key, value)]
    scale = query.shape[-1]**-0.5 if scale is None else scale
    output = homologous_attention_reference(*inputs, topk, scale)
    return output, *torch.autograd.grad(output, inputs, upstream.double())


def computed(attention, query, key, value, upstream, *args, **kwargs):
    """Output and gradients of ``attention(query, key, value, ...)``."""
    inputs = [tensor.detach().requires_grad_()
              for tensor in (query, key, value)]
    output = attention(*inputs, *args, **kwargs)
    return output, *torch.autograd.grad(output, inputs, upstream)


def computed_by(path, query, key, value, upstream, topk):
    """The same of a module with a ``forward`` and a ``backward``."""
    scale = query.shape[-1]**-0.5
    output, *statistics = path.forward(query, key, value, topk, scale)
    return output, *path.backward(upstream, query, key, value, *statistics,
                                  scale)


def assert_equal_up_to_rounding(results, references, roundings=8):
    """Within a few rounding errors of the results' dtype.

    A result sums terms that were each rounded, so the error is relative to the
    largest of the tensors, not to each element.
    """
    largest = max(1., *(tensor.abs().max().item() for tensor in references))
    for result, reference in zip(results, references):
        tolerance = roundings * torch.finfo(result.dtype).eps * largest
        torch.testing.assert_close(
            result.double(), reference, rtol=0, atol=tolerance)
