"""Measure during a training run without changing it."""
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Callable, Dict, Iterator, Mapping, TypeVar

import torch
from mmengine.logging import MMLogger
from torch import nn

from .machine import pytorch_is

Key = TypeVar('Key')


@contextmanager
def evaluating(model: nn.Module):
    """Evaluation mode and no gradients inside, every module's mode back after.

    ``model.train()`` at the end would also switch on modules that are in evaluation
    mode on purpose, such as frozen norms. Compiled modules run as written, since
    compiled ones do not call new forward hooks.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), (torch.compiler.set_stance('force_eager')
                               if pytorch_is('2.6') else nullcontext()):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


@contextmanager
def outputs_of(modules: Mapping[Key, nn.Module]) -> Iterator[Dict[Key, Any]]:
    """What modules return while they run inside, the last time, by their key."""
    outputs: Dict[Key, Any] = {}

    def keep(key: Key) -> Callable:
        return lambda module, inputs, output: outputs.update({key: output})

    with ExitStack() as hooks:
        for key, module in modules.items():
            hooks.enter_context(module.register_forward_hook(keep(key)))
        yield outputs


@contextmanager
def quiet() -> Iterator[None]:
    """Leave out mmengine's log below the level of a warning."""
    logger = MMLogger.get_current_instance()
    before = logger.level
    logger.setLevel('WARNING')
    try:
        yield
    finally:
        logger.setLevel(before)
