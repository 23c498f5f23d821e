"""Make DDP group gradients in the same way before and after a restart."""
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def settle_gradient_buckets(model: nn.Module) -> bool:
    """Let DDP arrange its buckets now, not after the first step; call it on all ranks.

    DDP sums gradients in buckets of several parameters. It groups them by the order of
    registration first, and after the first backward pass once more by the order in
    which gradients arrived. Among three processes or more the grouping decides in
    which order numbers are added, so that the first step after a restart would be
    summed in another way than without the restart.

    Here that first backward pass goes through a stand-in for the model, whose
    gradients (all zero) arrive in the reverse order of registration, about as they do
    in training. It costs one exchange of gradients, and those of before are lost.

    Returns:
        bool: False for DDP with ``static_graph``, which counts how often each
        parameter is used in its first step and must not see a stand-in.
    """
    if not isinstance(model, DistributedDataParallel):
        return True
    if model.static_graph:
        return False
    module = model.module
    parameters = [p for p in module.parameters() if p.requires_grad]
    module.forward = lambda _: torch.stack(  # DDP on a GPU needs an argument
        [0 * parameter.float().sum() for parameter in parameters]).sum()
    try:
        model(None).backward()
    finally:
        del module.forward
    # The next forward pass through DDP arranges the buckets.
    for parameter in parameters:
        parameter.grad = None
    return True
