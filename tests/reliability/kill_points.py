"""Inside a run under test: die at a random moment, and leave comparable traces."""
import hashlib
import json
import os
import signal
import threading
import time
import zlib
from collections import defaultdict
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook

from mixedae_mm.engine.resume.checkpoint_files import find_resumable_checkpoint
from mixedae_mm.engine.resume.exact_resume_hook import ExactResumeHook

PHASES = ('step', 'write', 'evaluation')
# Histories that depend on the machine, not on the computation.
TIMINGS = ('time', 'data_time', 'memory', 'images_per_second')


class KillPoint(NamedTuple):
    """When a process of a run dies.

    Attributes:
        phase (str): One of :data:`PHASES`.
        iteration (int): Not before this one; then at the next such phase.
        delay (float): Seconds after its begin.
        rank (int): Of the process; only rank 0 writes.
    """
    phase: str
    iteration: int
    delay: float
    rank: int


class KillPointHook(Hook):
    """Die by SIGKILL at a point, or measure how long the phases take.

    A thread strikes, so that it may be anywhere in the phase: between two
    instructions of a matrix product, or half way through a file.

    Args:
        point (KillPoint, optional): None to live.
        log (str): A file for a JSON line: where death struck, or the medians
            in seconds of the phases and of what exact resume adds to a step.
    """
    priority = 'HIGHEST'

    def __init__(self, point: Optional[KillPoint], log: str) -> None:
        self.point, self.log, self.where = point, log, 'between phases'
        self.seconds: Dict[str, List[float]] = defaultdict(list)

    def before_train(self, runner) -> None:
        for hook in runner.hooks:
            if isinstance(hook, ExactResumeHook):
                hook.before_train_iter = self._timed(hook.before_train_iter)

    def before_train_iter(self, runner, **kwargs) -> None:
        self._begin('step', runner)

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None) -> None:
        """Also log a checksum of the batches of all ranks: the sample order."""
        self._end('step')
        batches = all_gather_object(_checksum(data_batch['inputs']))
        runner.message_hub.update_scalar('train/batch_checksum', sum(batches))

    def before_save_on_all_ranks(self, runner) -> None:
        self._begin('write', runner)
        # The end of a write has no hook: the next phase ends it.

    def before_val_epoch(self, runner) -> None:
        self._begin('evaluation', runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._end('evaluation')

    def after_train(self, runner) -> None:
        if runner.rank == 0 and self.point is None:
            medians = {
                phase: sorted(seconds)[len(seconds) // 2]
                for phase, seconds in self.seconds.items()
            }
            _append(self.log, dict(medians, iterations=runner.max_iters))

    def _begin(self, phase: str, runner) -> None:
        if self.where == 'write':
            self._end('write')
        self.where, self.since = phase, time.perf_counter()
        point = self.point
        if (point and point.phase == phase and point.rank == runner.rank
                and runner.iter >= point.iteration):
            self.point = None
            threading.Thread(
                target=self._strike, args=(point.delay, runner), daemon=True).start()

    def _end(self, phase: str) -> None:
        self.seconds[phase].append(time.perf_counter() - self.since)
        self.where = 'between phases'

    def _timed(self, function: Callable) -> Callable:

        def timed(*args, **kwargs) -> None:
            since = time.perf_counter()
            function(*args, **kwargs)
            self.seconds['exact_resume'].append(time.perf_counter() - since)

        return timed

    def _strike(self, delay: float, runner) -> None:
        time.sleep(delay)
        _append(self.log, dict(
            where=self.where, iteration=runner.iter, rank=runner.rank))
        os.kill(os.getpid(), signal.SIGKILL)


def traces(work_dir: str) -> Dict[str, str]:
    """Hashes of what a finished run leaves.

    Args:
        work_dir (str): With its ``last_checkpoint``.

    Returns:
        dict[str, str]: ``weights``, ``optimizer``, ``schedules``, ``losses``
        (the whole history of all that is logged) and, where there are, ``order``
        (of the samples, from :class:`KillPointHook`) and ``ema``.
    """
    # A run's own checkpoint, as in resuming: its history is a pickle.
    checkpoint = torch.load(
        find_resumable_checkpoint(work_dir), map_location='cpu', weights_only=False)
    history = {
        name: buffer.data[0].tolist()
        for name, buffer in checkpoint['message_hub']['log_scalars'].items()
        if name.rpartition('/')[2] not in TIMINGS
    }
    parts = dict(
        weights=checkpoint['state_dict'],
        ema=checkpoint.get('ema_state_dict'),
        optimizer=checkpoint['optimizer'],
        schedules=checkpoint.get('param_schedulers'),
        order=history.pop('train/batch_checksum', None),
        losses=history)
    return {name: digest(part) for name, part in parts.items() if part is not None}


def digest(value: Any) -> str:
    """A hash of every bit of tensors in nested containers."""
    sha = hashlib.sha256()
    _update(sha, value)
    return sha.hexdigest()[:12]


def _update(sha, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            sha.update(str(key).encode())
            _update(sha, value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _update(sha, item)
    elif isinstance(value, torch.Tensor):
        sha.update(f'{value.dtype}{tuple(value.shape)}'.encode())
        sha.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy())
    else:
        sha.update(repr(value).encode())


def _checksum(inputs: Any) -> int:
    """Of the pixels of a batch: a tensor, or a list of them."""
    tensors = [inputs] if isinstance(inputs, torch.Tensor) else inputs
    checksum = 0
    for tensor in tensors:
        checksum = zlib.crc32(tensor.contiguous().numpy(), checksum)
    return checksum


def _append(path: str, entry: dict) -> None:
    with open(path, 'a') as file:
        file.write(json.dumps(entry) + '\n')
