"""Find operators after which the host waits for the device."""
from typing import List

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.utils._python_dispatch import TorchDispatchMode


class Waits(TorchDispatchMode):
    """Notes operators after which the host waits for a GPU, or that are atomic.

    It sees them on a CPU as well, but not ``tolist``.
    """
    WAITING = ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique', 'equal',
               'is_nonzero', 'index_put', 'bincount', 'repeat_interleave.Tensor')

    def __init__(self):
        super().__init__()
        self.found: List[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if func.__name__.startswith(self.WAITING):
            self.found.append(func.__name__)
        return func(*args, **(kwargs or {}))


@HOOKS.register_module()
class WaitsHook(Hook):
    """Watch each step of a training, up to the hooks that are registered before it."""
    priority = 'HIGHEST'
    found: List[List[str]] = []  # per iteration

    def before_train(self, runner):
        self.found.clear()

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        self.waits = Waits()
        self.waits.__enter__()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.waits.__exit__(None, None, None)
        self.found.append(self.waits.found)
