"""Homologous attention against SDPA and against naive TopK."""
from typing import Callable, List

import torch
import torch.nn.functional as F
from torch import Tensor

from mixedae_mm.ops import homologous_attention
from .compare import alternate, in_own_process, peak_memory, summarize


def naive_topk_attention(query: Tensor, key: Tensor, value: Tensor,
                         topk: int) -> Tensor:
    """TopK attention written directly, with autograd through ``topk``."""
    scores = query @ key.transpose(-2, -1) * query.size(-1)**-.5
    kept, index = scores.topk(topk, dim=-1)
    weights = torch.zeros_like(scores).scatter(-1, index, kept.softmax(-1))
    return weights @ value


TOPK = 49  # K of ViT-B/16 at r = 1/4
PEER = 'SDPA'
ATTENTION = {
    PEER: F.scaled_dot_product_attention,
    'homologous': lambda q, k, v: homologous_attention(q, k, v, TOPK),
    'naive TopK': lambda q, k, v: naive_topk_attention(q, k, v, TOPK),
}


def forward_and_backward(name: str, device: torch.device, batch_size: int
                         ) -> Callable[[], None]:
    """Return a run of one contender at ViT-B's shape, ``(B, 12, 197, 64)``."""
    torch.manual_seed(0)
    query, key, value, gradient = (torch.randn(
        batch_size, 12, 197, 64, device=device,
        dtype=torch.bfloat16 if device.type == 'cuda' else torch.float32)
        for _ in range(4))
    for tensor in (query, key, value):
        tensor.requires_grad_()

    def run_once():
        out = ATTENTION[name](query, key, value)
        torch.autograd.grad(out, (query, key, value), gradient)

    return run_once


def run(device: torch.device, batch_size: int, repeats: int) -> List[dict]:
    """Time forward and backward by turns, and measure what they take above the inputs.

    Rows of :func:`.compare.summarize` gain ``extra_mib`` and ``extra_ratio``.
    """
    rows = summarize(alternate({
        name: forward_and_backward(name, device, batch_size) for name in ATTENTION
    }, device, repeats), PEER)
    for row in rows:
        row['extra_mib'] = in_own_process(
            _extra_memory, row['name'], str(device), batch_size) / 2**20
        row['extra_ratio'] = row['extra_mib'] / rows[0]['extra_mib']
    return rows


def _extra_memory(name: str, device_name: str, batch_size: int) -> int:
    device = torch.device(device_name)
    # Memory that libraries take once is not a cost of the operation.
    forward_and_backward(name, device, 1)()
    return peak_memory(forward_and_backward(name, device, batch_size), device)
