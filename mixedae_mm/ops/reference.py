"""Homologous attention written straight from Eq. 6 of the MixedAE paper.

Slow and obvious on purpose: every fast path is tested against this file.
"""
import torch
from torch import Tensor


def topk_mask(scores: Tensor, topk: int) -> Tensor:
    """Which scores ``(..., N)`` TopK keeps: per row the ``topk`` largest, as a mask.

    ``topk`` is K of Eq. 6, from 1 to N.
    Keys that tie with the ``topk``-th largest score are all kept, so a row
    can keep more than ``topk``. A NaN is never below the threshold and so is
    kept too: it reaches the output instead of being dropped in silence.
    """
    smallest_kept = scores.topk(topk, dim=-1, sorted=False).values.amin(
        dim=-1, keepdim=True)
    return ~(scores < smallest_kept)


def homologous_attention_reference(query: Tensor, key: Tensor, value: Tensor,
                                   topk: int, scale: float) -> Tensor:
    """Eq. 6, see :func:`mixedae_mm.ops.homologous_attention`.

    The choice of keys is constant to autograd: the gradient flows through the
    kept scores only.
    """
    compute_dtype = torch.promote_types(query.dtype, torch.float32)
    with torch.autocast(query.device.type, enabled=False):
        scores = query.to(compute_dtype) @ key.to(compute_dtype).mT * scale
        kept = topk_mask(scores.detach(), topk)
        probabilities = scores.masked_fill(~kept, float('-inf')).softmax(-1)
        output = probabilities @ value.to(compute_dtype)
    return output.to(query.dtype)
