"""Homologous attention in plain tensor operations, one block at a time.

The fallback for every device and dtype without a kernel of its own. Scores of one
block of the batch at a time are in memory; the backward computes them again.
"""
from typing import Iterator, Tuple

import torch
from torch import Tensor

from .layout import new_heads, new_statistics
from .reference import topk_mask

_SCORES_IN_BLOCK = 2**25  # 128 MiB of float32


def forward(query: Tensor, key: Tensor, value: Tensor, topk: int,
            scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """See :mod:`mixedae_mm.ops.attention`."""
    output = new_heads(query)
    thresholds, logsumexps = new_statistics(query)
    for block in _blocks(query):
        scores = _scores(query, key, block)  # (b, heads, N, N)
        thresholds[block] = _separating_thresholds(scores, topk)
        _drop_below(scores, thresholds[block])
        scores.mul_(scale)
        logsumexps[block] = scores.logsumexp(-1)
        output[block] = scores.softmax(-1) @ _read(value, block)
    return output, thresholds, logsumexps


def backward(grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor,
             thresholds: Tensor, logsumexps: Tensor,
             scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """See :mod:`mixedae_mm.ops.attention`."""
    grad_query, grad_key, grad_value = (new_heads(query) for _ in range(3))
    for block in _blocks(query):
        upstream = _read(grad_output, block)
        scores = _scores(query, key, block)  # (b, heads, N, N)
        _drop_below(scores, thresholds[block])
        scores.mul_(scale)
        probabilities = scores.sub_(logsumexps[block].unsqueeze(-1)).exp_()
        grad_value[block] = probabilities.mT @ upstream
        # Gradient of the softmax: P * (dP - sum(P * dP)).
        grad_scores = upstream @ _read(value, block).mT
        mean = (probabilities * grad_scores).sum(-1, keepdim=True)
        grad_scores = grad_scores.sub_(mean).mul_(probabilities).mul_(scale)
        grad_query[block] = grad_scores @ _read(key, block)
        grad_key[block] = grad_scores.mT @ _read(query, block)
    return grad_query, grad_key, grad_value


def _blocks(query: Tensor) -> Iterator[slice]:
    batch_size, num_heads, num_tokens, _ = query.shape
    samples = max(1, _SCORES_IN_BLOCK // max(1, num_heads * num_tokens**2))
    for first in range(0, batch_size, samples):
        yield slice(first, first + samples)


def _read(tensor: Tensor, block: slice) -> Tensor:
    return tensor[block].to(torch.promote_types(tensor.dtype, torch.float32))


def _scores(query: Tensor, key: Tensor, block: slice) -> Tensor:
    return _read(query, block) @ _read(key, block).mT


def _separating_thresholds(scores: Tensor, topk: int) -> Tensor:
    """Halfway between the smallest kept and the largest dropped score.

    Scores that are computed again may differ in the last bit; there the threshold
    still tells them apart.
    """
    kept = topk_mask(scores, topk)
    smallest_kept = scores.masked_fill(~kept, float('inf')).amin(-1)
    largest_dropped = scores.masked_fill(kept, float('-inf')).amax(-1)
    halfway = 0.5 * smallest_kept + 0.5 * largest_dropped
    return torch.where(halfway > largest_dropped, halfway, smallest_kept)


def _drop_below(scores: Tensor, thresholds: Tensor) -> None:
    scores.masked_fill_(scores < thresholds.unsqueeze(-1), float('-inf'))
