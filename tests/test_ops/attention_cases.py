"""Inputs for homologous attention, and what it has to make of them."""
import torch

from mixedae_mm.ops.reference import homologous_attention_reference, topk_mask


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
    return [tensor.to(dtype).to(device) for tensor in (query, key, value, upstream)]


def _sliced(tensor):
    """Every second row and column of a larger storage, with an offset."""
    batch_size, num_heads, num_tokens, head_dim = tensor.shape
    storage = tensor.new_full(
        (batch_size + 1, num_heads, 2 * num_tokens + 1, 2 * head_dim + 3), 1e4)
    return storage[1:, :, 1::2, 3::2].copy_(tensor)


# The same numbers in other places of memory: (B, heads, N, D) to (B, heads, N, D).
LAYOUTS = dict(
    columns=lambda t: t.transpose(2, 3).contiguous().transpose(2, 3),
    tokens_first=lambda t: t.permute(2, 0, 1, 3).contiguous().permute(1, 2, 0, 3),
    reversed=lambda t: t.permute(3, 2, 1, 0).contiguous().permute(3, 2, 1, 0),
    sliced=_sliced,
    # What an encoder layer passes: one of the three in a fused projection.
    fused=lambda t: torch.stack((t, -t, 2 * t)).permute(
        1, 3, 0, 2, 4).contiguous().permute(2, 0, 3, 1, 4)[0],
)
# One layout for all four tensors, and another one for each.
LAYOUTS_OF_FOUR = [(name, ) * 4 for name in LAYOUTS] + [
    ('columns', 'tokens_first', 'sliced', 'reversed'),
    ('sliced', 'columns', 'reversed', 'tokens_first')]


def laid_out(tensors, names):
    """Copies of the tensors, each in the layout of that name."""
    copies = [LAYOUTS[name](tensor) for name, tensor in zip(names, tensors)]
    assert all(map(torch.equal, copies, tensors))
    return copies


def expected(query, key, value, upstream, topk, scale=None):
    """Output and gradients of the reference, in float64."""
    inputs = [tensor.detach().double().requires_grad_()
              for tensor in (query, key, value)]
    scale = query.shape[-1]**-0.5 if scale is None else scale
    output = homologous_attention_reference(*inputs, topk, scale)
    return output, *torch.autograd.grad(output, inputs, upstream.double())


def computed(attention, query, key, value, upstream, *args, **kwargs):
    """Output and gradients of ``attention(query, key, value, ...)``."""
    inputs = [tensor.detach().requires_grad_() for tensor in (query, key, value)]
    output = attention(*inputs, *args, **kwargs)
    return output, *torch.autograd.grad(output, inputs, upstream)


def computed_by(path, query, key, value, upstream, topk):
    """The same of a module with a ``forward`` and a ``backward``."""
    scale = query.shape[-1]**-0.5
    output, *statistics = path.forward(query, key, value, topk, scale)
    return output, *path.backward(upstream, query, key, value, *statistics, scale)


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


def assert_statistics(query, key, topk, scale, thresholds, logsumexps):
    """The two statistics of each query are as ops/attention.py says."""
    products = query.double() @ key.double().mT  # (B, heads, N, N), exact
    kept = topk_mask(products, topk)
    smallest_kept = products.masked_fill(~kept, float('inf')).amin(-1)
    largest_dropped = products.masked_fill(kept, float('-inf')).amax(-1)
    assert (thresholds <= smallest_kept).all()
    assert (thresholds > largest_dropped).all()
    scores = (products * scale).masked_fill(~kept, float('-inf'))
    torch.testing.assert_close(
        logsumexps.double(), scores.logsumexp(-1), rtol=1e-5, atol=1e-5)
    for statistics in (thresholds, logsumexps):
        assert statistics.is_contiguous()
        assert statistics.dtype == torch.promote_types(query.dtype, torch.float32)
