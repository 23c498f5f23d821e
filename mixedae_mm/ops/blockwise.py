"""Homologous attention in plain tensor operations, a block at a time.

For every device and dtype that has no kernel of its own: the fallback. Only a
block of the batch has its scores in memory, and the backward computes them
anew.
"""
from typing import Iterator, Tuple

import torch
from torch import Tensor

from .reference import topk_mask

_SCORES_IN_BLOCK = 2**25  # 128 MiB of float32


def forward(query: Tensor, key: Tensor, value: Tensor, topk: int,
            scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Eq. 6, ``softmax(TopK(q k^T * scale)) v``.

    Args:
        query, key, value (Tensor): (B, heads, N, D).
        topk (int): K, from 1 to N.
        scale (float): Factor of the scores.

    Returns:
        tuple[Tensor, Tensor, Tensor]: The output (B, heads, N, D), and what
        the backward needs of each query, (B, heads, N), float32 or wider: a
        threshold that no kept score is below and every dropped one is, and the
        log-sum-exp of the kept scores.
    """
    output = torch.empty_like(query)
    thresholds = query.new_empty(query.shape[:3], dtype=_compute_dtype(query))
    logsumexps = torch.empty_like(thresholds)
    for block in _blocks(query):
        scores = _scores(query, key, block, scale)
        thresholds[block] = _separating_thresholds(scores, topk)
        _drop_below(scores, thresholds[block])
        logsumexps[block] = scores.logsumexp(-1)
        output[block] = scores.softmax(-1) @ _read(value, block)
    return output, thresholds, logsumexps


def backward(grad_output: Tensor, query: Tensor, key: Tensor, value: Tensor,
             thresholds: Tensor, logsumexps: Tensor,
             scale: float) -> Tuple[Tensor, Tensor, Tensor]:
    """Gradients of :func:`forward` with respect to query, key and value."""
    grad_query, grad_key, grad_value = (
        torch.empty_like(query) for _ in range(3))
    for block in _blocks(query):
        upstream = _read(grad_output, block)
        scores = _scores(query, key, block, scale)
        _drop_below(scores, thresholds[block])
        probabilities = scores.sub_(logsumexps[block].unsqueeze(-1)).exp_()
        grad_value[block] = probabilities.mT @ upstream
        # The softmax's own gradient: P * (dP - sum(P * dP)).
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


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    return torch.promote_types(tensor.dtype, torch.float32)


def _read(tensor: Tensor, block: slice) -> Tensor:
    return tensor[block].to(_compute_dtype(tensor))


def _scores(query: Tensor, key: Tensor, block: slice, scale: float) -> Tensor:
    return (_read(query, block) @ _read(key, block).mT).mul_(scale)


def _separating_thresholds(scores: Tensor, topk: int) -> Tensor:
    """Halfway between the smallest kept and the largest dropped score.

    There the threshold is safe from the last bit, in which scores computed
    anew may differ.
    """
    kept = topk_mask(scores, topk)
    smallest_kept = scores.masked_fill(~kept, float('inf')).amin(-1)
    largest_dropped = scores.masked_fill(kept, float('-inf')).amax(-1)
    halfway = 0.5 * smallest_kept + 0.5 * largest_dropped
    return torch.where(halfway > largest_dropped, halfway, smallest_kept)


def _drop_below(scores: Tensor, thresholds: Tensor) -> None:
    scores.masked_fill_(scores < thresholds.unsqueeze(-1), float('-inf'))
