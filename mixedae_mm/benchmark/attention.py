"""Homologous attention against SDPA and against naive TopK."""
from typing import List

import torch
import torch.nn.functional as F
from torch import Tensor

from ..ops import homologous_attention
from .compare import alternate, summarize


def naive_topk_attention(query: Tensor, key: Tensor, value: Tensor,
                         topk: int) -> Tensor:
    """TopK attention as one writes it down, autograd through ``topk``."""
    scores = query @ key.transpose(-2, -1) * query.size(-1)**-.5
    kept, index = scores.topk(topk, dim=-1)
    weights = torch.zeros_like(scores).scatter(-1, index, kept.softmax(-1))
    return weights @ value


def run(device: torch.device, batch_size: int, repeats: int,
        dtype: torch.dtype) -> List[dict]:
    """Forward and backward at ViT-B's shape, ``(B, 12, 197, 64)``, K = 49.

    Returns:
        list[dict]: Rows of :func:`~mixedae_mm.benchmark.compare.summarize`,
        plus ``extra_mib`` on a GPU: peak memory above the tensors themselves.
    """
    torch.manual_seed(0)
    shape = (batch_size, 12, 197, 64)
    query, key, value, gradient = (
        torch.randn(shape, device=device, dtype=dtype) for _ in range(4))
    for tensor in (query, key, value):
        tensor.requires_grad_()

    def contender(attention):

        def step():
            out = attention(query, key, value)
            torch.autograd.grad(out, (query, key, value), gradient)

        return step

    contenders = {
        'SDPA': contender(F.scaled_dot_product_attention),
        'homologous': contender(
            lambda q, k, v: homologous_attention(q, k, v, 49)),
        'naive TopK': contender(
            lambda q, k, v: naive_topk_attention(q, k, v, 49)),
    }
    rows = summarize(
        alternate(contenders, device, repeats=repeats), peer='SDPA')
    if device.type == 'cuda':
        for row in rows:
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)
            contenders[row['name']]()
            peak = torch.cuda.max_memory_allocated(device)
            row['extra_mib'] = (peak - before) / 2**20
    return rows
