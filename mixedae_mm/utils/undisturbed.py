"""Measure in the middle of a training run without changing it."""
import random
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module):
    """Evaluation mode and no gradients inside, every module's mode back after.

    ``model.train()`` at the end would also switch on modules that had been
    put to evaluation mode on purpose (frozen stages, frozen norms). Compiled
    modules run as written, since compiled ones do not call new forward hooks.
    """
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad(), _uncompiled():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def _uncompiled():
    if hasattr(torch.compiler, 'set_stance'):
        return torch.compiler.set_stance('force_eager')
    return nullcontext()  # PyTorch before 2.6


@contextmanager
def own_random_numbers(seed: int):
    """Python, NumPy and PyTorch generators start from ``seed`` inside.

    After it they go on as if nothing had been drawn.
    """
    python_state = random.getstate()
    numpy_state = np.random.get_state()
    with torch.random.fork_rng():
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
