"""Tensors that differ between processes, to and from a checkpoint."""
from typing import Any, Dict, Iterable, List, Optional, Tuple

import torch
from mmengine._strategy import SingleDeviceStrategy
from mmengine.dist import all_gather_object, get_rank
from mmengine.model import is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel

RankTensors = List[Dict[str, Tensor]]  # for each rank, by name


def gather(runner) -> dict:
    """Collect what ``state_dict`` of rank 0 lacks, on the CPU; call it on all ranks.

    Returns:
        dict: ``gradients`` (list[dict[str, Tensor]] | None): of each rank, which DDP
        sums only at the end of an accumulation window; None between two windows.
        ``buffers`` (list[dict[str, Tensor]]): those that are not rank 0's. Running
        statistics of BatchNorm are of the images that a rank saw, and decide how it
        evaluates.
    """
    model, gradients = bare(runner.model), None
    if window_is_open(runner.optim_wrapper):
        gradients = _gather((name, parameter.grad)
                            for name, parameter in model.named_parameters()
                            if parameter.requires_grad)
    buffers = _gather(model.named_buffers())
    return dict(gradients=gradients, buffers=[
        {name: buffer for name, buffer in rank.items()
         if not torch.equal(buffer, buffers[0][name])} for rank in buffers])


def restore(model: nn.Module, gradients: Optional[RankTensors],
            buffers: Optional[RankTensors]) -> None:
    """Give this rank back what was collected from it."""
    rank, model = get_rank(), bare(model)
    for name, parameter in model.named_parameters():
        if gradients and name in gradients[rank]:
            parameter.grad = gradients[rank][name].to(parameter, copy=True)
    for name, buffer in model.named_buffers():
        if buffers and name in buffers[rank]:
            buffer.copy_(buffers[rank][name])


def window_is_open(optim_wrapper) -> bool:
    """Whether gradients wait for more batches before the next update."""
    if isinstance(optim_wrapper, OptimWrapperDict):
        return any(map(window_is_open, optim_wrapper.values()))
    return (isinstance(optim_wrapper, OptimWrapper)
            and not optim_wrapper.should_update())


def is_fsdp(model: nn.Module) -> bool:
    """Whether FSDP has spread the model's weights over the ranks."""
    return isinstance(model, FullyShardedDataParallel)


def is_sharded(runner) -> bool:
    """Whether each rank has parts of tensors only (FSDP, DeepSpeed)."""
    strategy = getattr(runner, 'strategy', None)  # of FlexibleRunner
    return is_fsdp(runner.model) or (
        strategy is not None and not isinstance(strategy, SingleDeviceStrategy))


def bare(model: nn.Module) -> Any:
    """The model without the wrapper of distributed training."""
    return model.module if is_model_wrapper(model) else model


def _gather(named: Iterable[Tuple[str, Optional[Tensor]]]) -> RankTensors:
    """Gather one tensor at a time, for which a GPU needs little memory."""
    ranks: RankTensors = []
    for name, tensor in named:
        # A copy, lest the whole bucket be saved that a gradient is a view of.
        tensors = all_gather_object(
            None if tensor is None else tensor.detach().to('cpu', copy=True))
        ranks = ranks or [{} for _ in tensors]
        for rank, value in zip(ranks, tensors):
            if value is not None:
                rank[name] = value
    return ranks
