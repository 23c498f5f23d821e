"""Save a checkpoint and exit when the scheduler asks for the machine."""
import os
import signal
import threading
from functools import partial
from typing import Any, Callable, Optional, Sequence

import torch
from mmengine.dist import all_reduce, barrier, get_world_size
from mmengine.hooks import EMAHook, Hook
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop

from ...utils.checks import check_count
from ...utils.errors import ConfigurationError
from ..resume.resumable_loading import rebuilt, restart
from ..resume.safe_checkpoint_hook import SafeCheckpointHook


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Write a checkpoint and exit when a signal asks for it.

    At the next step boundary after SIGTERM or SIGUSR1 (what SLURM sends before a
    preemption or with ``--signal=USR1@120``, Kubernetes before a pod ends) all
    processes agree, write ``interrupted_iter_N.pth`` through
    :class:`SafeCheckpointHook`, and exit with ``exit_code``; ``--resume auto`` goes on
    from there. It is enough that one process gets the signal. An evaluation is
    abandoned and, with :class:`ExactResumeHook`, repeated after the restart. Dataloader
    workers ignore the signals, which usually go to every process of a job: a dead
    worker would end training before its checkpoint is written.

    The agreement is an ``all_reduce`` of one number per step.

    Args:
        exit_code (int): To tell "run me again" from success and failure. 75 is
            ``EX_TEMPFAIL`` of sysexits.h: try again later. No scheduler has one of its
            own; in a SLURM script::

                srun python tools/train.py CONFIG --launcher slurm --resume auto
                [ $? -eq 75 ] && scontrol requeue $SLURM_JOB_ID

            (``torchrun`` reports any failure of its children as 1.)
        signals (Sequence[str]): Names of the signals.

    Raises:
        ConfigurationError: For a signal that is not one, an ``exit_code`` outside
            [1, 255] or, before training, without :class:`SafeCheckpointHook`.
        SystemExit: With ``exit_code``, on all processes.
    """

    priority = 'LOWEST'  # after everything that belongs to the step

    def __init__(self, exit_code: int = 75,
                 signals: Sequence[str] = ('SIGTERM', 'SIGUSR1')) -> None:
        unknown = [name for name in signals if name not in signal.Signals.__members__]
        if unknown:
            raise ConfigurationError(f'PreemptionHook.signals has {unknown}, but must '
                                     "be names of signals such as 'SIGTERM'.")
        check_count('PreemptionHook.exit_code', exit_code, 1, 255)
        self.exit_code = exit_code
        self.signals = [signal.Signals[name] for name in signals]
        self.received = 0
        self.saver: Optional[SafeCheckpointHook] = None  # while training

    def before_train(self, runner) -> None:
        """Listen to the signals, in this process only."""
        self.saver = next((hook for hook in runner.hooks
                           if isinstance(hook, SafeCheckpointHook)), None)
        if self.saver is None:
            raise ConfigurationError(
                'PreemptionHook has nothing to save with; use default_hooks = '
                "dict(checkpoint=dict(type='SafeCheckpointHook', ...)).")
        self.previous = {number: signal.signal(number, self._remember)
                         for number in self.signals}
        for loop in filter(None, (runner.train_loop, runner.val_loop)):
            _protect_workers(loop, self.signals)

    def after_train(self, runner) -> None:
        """Give the signals back to whom they belonged."""
        self.saver = None
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def after_train_iter(self, runner, batch_idx: int, **kwargs) -> None:
        """A step boundary."""
        if self._anyone_received():
            self._leave(runner, dict(epoch=runner.epoch, iter=runner.iter + 1))

    def before_val_epoch(self, runner) -> None:
        """Find how many batches all ranks have: agreeing takes all of them."""
        batches = torch.tensor(len(runner.val_dataloader))
        all_reduce(batches, 'min')
        self.common_batches = int(batches)

    def after_val_iter(self, runner, batch_idx: int, **kwargs) -> None:
        """An evaluation may take longer than the scheduler waits."""
        if self.saver is None:  # not within training
            return
        if batch_idx < self.common_batches and self._anyone_received():
            for hook in runner.hooks:
                if isinstance(hook, EMAHook):  # give the model its own weights
                    hook._swap_ema_parameters()
            runner.message_hub.update_info('loop_stage', 'train')
            self._leave(runner, dict(epoch=runner.epoch, iter=runner.iter))

    def _remember(self, number: int, frame) -> None:
        self.received = number

    def _anyone_received(self) -> bool:
        if get_world_size() > 1:
            number = torch.tensor(self.received)
            all_reduce(number, 'max')
            self.received = int(number)
        return self.received > 0

    def _leave(self, runner, meta: dict) -> None:
        assert self.saver is not None  # signals are heeded within training only
        runner.logger.warning(f'{signal.Signals(self.received).name}: saving a '
                              'checkpoint to leave.')
        self.saver.save_interrupted(runner, meta)
        barrier()  # rank 0 may still be writing
        runner.logger.warning(f'Exiting with code {self.exit_code} after iteration '
                              f'{meta["iter"]}; resume from {self.saver.last_ckpt}.')
        raise SystemExit(self.exit_code)


def _protect_workers(loop: BaseLoop, signals: Sequence[int]) -> None:
    """Have the dataloader workers of a loop heed only their parent's signals."""
    loader = loop.dataloader
    protected = partial(_obey_parent_only, signals, loader.worker_init_fn)
    iterator: Any = getattr(loop, 'dataloader_iterator', None)
    if getattr(iterator, '_iterator', None) is None:
        loader.worker_init_fn = protected
        return
    # The workers of an iteration-based loop run already (mmengine 0.10.7).
    loop.dataloader = rebuilt(loader, worker_init_fn=protected)
    restart(getattr(loader.batch_sampler, 'sampler', None))
    loop.dataloader_iterator = type(iterator)(loop.dataloader)


def _obey_parent_only(signals: Sequence[int], then: Optional[Callable],
                      worker_id: int) -> None:
    """Heed the signals only if the main process sent them: a ``worker_init_fn``.

    A job's signals reach the workers as well, but the main process uses SIGTERM to end
    them, so that they cannot just be ignored. Blocked signals wait until a thread asks
    for them, and then tell their sender.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    threading.Thread(target=_wait_for_parent, args=(signals,), daemon=True).start()
    if then is not None:
        then(worker_id)


def _wait_for_parent(signals: Sequence[int]) -> None:
    while signal.sigwaitinfo(signals).si_pid != os.getppid():
        pass
    os._exit(0)
