"""Something goes wrong at a given iteration of a run."""
import errno
import os
import os.path as osp
import signal

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from mixedae_mm.utils.errors import ConfigurationError


@HOOKS.register_module()
class FaultHook(Hook):
    """Do a run harm, for :mod:`.fault_test`.

    Args:
        iteration (int): After which one, counted from 0.
        what (str): ``'kill'`` the process, ``'signal'`` it, kill one
            ``'worker'`` of its dataloader, ``'fill'`` the disk of its work
            folder until ``'free'``, ``'poison'`` a weight with NaN.
        name (str): Of the signal.
    """
    priority = 'VERY_HIGH'
    KINDS = ('kill', 'signal', 'worker', 'fill', 'free', 'poison')

    def __init__(self, iteration: int, what: str, name: str = 'SIGTERM') -> None:
        if what not in self.KINDS:
            raise ConfigurationError(
                f'what is {what!r}, but must be one of {self.KINDS}.')
        self.iteration, self.name = iteration, name
        self.do = getattr(self, what)

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None) -> None:
        if runner.iter == self.iteration:
            self.do(runner)

    def kill(self, runner) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def signal(self, runner) -> None:
        os.kill(os.getpid(), signal.Signals[self.name])

    def worker(self, runner) -> None:
        os.kill(runner.train_dataloader._iterator._workers[0].pid, signal.SIGKILL)

    def fill(self, runner) -> None:
        with open(osp.join(runner.work_dir, 'filler'), 'wb', buffering=0) as file:
            try:
                while True:
                    file.write(bytes(2**16))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    def free(self, runner) -> None:
        os.remove(osp.join(runner.work_dir, 'filler'))

    def poison(self, runner) -> None:
        with torch.no_grad():
            next(runner.model.parameters()).fill_(torch.nan)
