"""Peak memory of a training step, and of the backbone at a detector's image size."""
from pathlib import Path
from typing import Callable, Dict, List

import torch
from mmengine.registry import MODELS

from .compare import in_own_process, peak_memory, with_ratios
from .step import PEER, Step, contenders

BACKBONES = {
    "mmpretrain's VisionTransformer": dict(type='mmpretrain.VisionTransformer'),
    'MixedAEViT': dict(type='MixedAEViT'),
    'MixedAEViT, checkpointed': dict(type='MixedAEViT', with_cp=True),
}


def of_step(config_path: str, device: torch.device, batch_size: int) -> List[dict]:
    """Measure two eager steps, from before the model is built."""
    return _peaks(_step, {
        name: (str(config_path), name, str(device), batch_size)
        for name in (PEER, Path(config_path).stem)})


def of_backbone(device: torch.device, batch_size: int = 1, height: int = 800,
                width: int = 1333) -> List[dict]:
    """Measure forward and backward of ViT-B/16 on images of ``height`` x ``width``.

    The backbone returns the features of layers 4, 6, 8 and 12, as for a detector.
    """
    return _peaks(_backbone, {
        name: (config, str(device), (batch_size, 3, height, width))
        for name, config in BACKBONES.items()})


def _peaks(measure: Callable, arguments: Dict[str, tuple]) -> List[dict]:
    """Measure each contender in its own process; see :func:`.compare.peak_memory`."""
    return with_ratios([
        dict(name=name, peak_mib=in_own_process(measure, *given) / 2**20)
        for name, given in arguments.items()], 'peak_mib')


def _step(config_path: str, name: str, device_name: str, batch_size: int) -> int:
    import mixedae_mm  # noqa: F401  a fresh process registers anew
    device = torch.device(device_name)

    def build_and_train():
        # The first step, which is counted, creates the optimizer's state.
        Step(contenders(config_path, compiled=False)[name], device, batch_size)()

    return peak_memory(build_and_train, device)


def _backbone(config: dict, device_name: str, shape: tuple) -> int:
    import mixedae_mm  # noqa: F401  a fresh process registers anew
    import mmpretrain.models  # noqa: F401
    device = torch.device(device_name)
    vit = MODELS.build(dict(
        config, arch='base', out_type='featmap', out_indices=[3, 5, 7, 11],
        final_norm=False)).to(device)
    images = torch.randn(shape, device=device)
    for parameter in vit.parameters():  # so that gradients are not counted
        parameter.grad = torch.zeros_like(parameter)
    return peak_memory(
        lambda: sum(level.square().mean() for level in vit(images)).backward(), device)
