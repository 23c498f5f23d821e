"""Hooks inside a run under test: note the order of its images, kill it, do it harm."""
import errno
import json
import os
import os.path as osp
import signal
import threading
import time
from collections import defaultdict
from statistics import median
from typing import Dict, List, Optional

import torch
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from .traces import digest

PHASES = ('step', 'write', 'evaluation')


@HOOKS.register_module()
class KillPointHook(Hook):
    """Die by SIGKILL within a phase, or measure how long the phases take.

    It also logs a hash of the batches of all ranks: the order of the images. A thread
    kills, ``delay`` seconds after the beginning of the next ``phase`` from
    ``iteration`` on, so that it may be anywhere in it: between two instructions of a
    matrix product, or half way through a file. A killed run appends to the JSON file
    ``log`` where it was; one that ends, the median seconds of its phases.
    """
    priority = 'HIGHEST'

    def __init__(self, log: str, phase: Optional[str] = None, iteration: int = 0,
                 delay: float = 0., rank: int = 0) -> None:
        self.log, self.where = log, 'between'
        self.phase, self.iteration = phase, iteration
        self.delay, self.rank = delay, rank
        self.seconds: Dict[str, List[float]] = defaultdict(list)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self._begin('step', runner)

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None) -> None:
        self._end()
        hashes = all_gather_object(int(digest(data_batch['inputs']), 16))
        runner.message_hub.update_scalar('train/batch_hash', sum(hashes))

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        self._begin('write', runner)  # which ends where the next phase begins

    def before_val_epoch(self, runner) -> None:
        self._begin('evaluation', runner)

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._end()

    def after_train(self, runner) -> None:
        if runner.rank == 0 and self.phase is None:
            medians = {phase: median(seconds)
                       for phase, seconds in self.seconds.items()}
            self._write(dict(medians, iterations=runner.max_iters))

    def _begin(self, phase: str, runner) -> None:
        if self.where == 'write':
            self._end()
        self.where, self.since = phase, time.perf_counter()
        if (phase == self.phase and self.rank == runner.rank
                and runner.iter >= self.iteration):
            self.phase = 'none'  # it strikes once
            threading.Thread(target=self._kill, args=(runner, ), daemon=True).start()

    def _end(self) -> None:
        self.seconds[self.where].append(time.perf_counter() - self.since)
        self.where = 'between'

    def _kill(self, runner) -> None:
        time.sleep(self.delay)
        self._write(dict(where=self.where, iteration=runner.iter, rank=runner.rank))
        os.kill(os.getpid(), signal.SIGKILL)

    def _write(self, entry: dict) -> None:
        with open(self.log, 'a') as file:
            file.write(json.dumps(entry) + '\n')


@HOOKS.register_module()
class FaultHook(Hook):
    """Do a run harm: after iteration ``iteration``, by the method ``what``."""
    priority = 'VERY_HIGH'

    def __init__(self, iteration: int, what: str, name: str = 'SIGTERM') -> None:
        self.iteration, self.do, self.name = iteration, getattr(self, what), name

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

    def fill(self, runner) -> None:  # the disk of its work folder
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
