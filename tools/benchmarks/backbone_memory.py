"""Memory of the backbone alone, at a detector's image size."""
from typing import List

import torch
from mmengine.registry import MODELS

from .compare import in_own_process, peak_memory, with_ratios

PEER = "mmpretrain's VisionTransformer"
CONTENDERS = {
    PEER: dict(type='mmpretrain.VisionTransformer'),
    'MixedAEViT': dict(type='MixedAEViT'),
    'MixedAEViT, checkpointed': dict(type='MixedAEViT', with_cp=True),
}


def run(device: torch.device, batch_size: int = 1, height: int = 800,
        width: int = 1333) -> List[dict]:
    """Measure the peak memory of a forward and backward pass of ViT-B/16.

    The backbone returns the features of layers 4, 6, 8 and 12, as for a detector.
    Each contender runs in its own process.

    Args:
        device (torch.device): Where to run.
        batch_size (int): Images.
        height (int): In pixels.
        width (int): In pixels.

    Returns:
        list[dict]: ``name``, ``peak_mib`` (GPU: allocated; CPU: resident set
        above what the process held before the pass), ``ratio``.
    """
    rows = []
    for name, config in CONTENDERS.items():
        peak = in_own_process(_peak_memory, config, str(device),
                              (batch_size, 3, height, width))
        rows.append(dict(name=name, peak_mib=peak / 2**20))
    return with_ratios(rows, 'peak_mib')


def _peak_memory(config: dict, device_name: str, shape) -> int:
    import mixedae_mm  # noqa: F401  a fresh process registers anew
    import mmpretrain.models  # noqa: F401
    device = torch.device(device_name)
    vit = MODELS.build(
        dict(
            config,
            arch='base',
            out_type='featmap',
            out_indices=[3, 5, 7, 11],
            final_norm=False)).to(device)
    images = torch.randn(shape, device=device)
    for parameter in vit.parameters():  # so that gradients are not counted
        parameter.grad = torch.zeros_like(parameter)

    def forward_and_backward():
        sum(feature.square().mean() for feature in vit(images)).backward()

    return peak_memory(forward_and_backward, device)
