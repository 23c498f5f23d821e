"""Run many trainings, some at a time; stop and go on at any moment."""
import signal
import subprocess
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import (Callable, ContextManager, Dict, Iterator, List, Optional, Sequence,
                    Tuple)

from mixedae_mm.utils.files import lock
from mixedae_mm.utils.machine import cpu_cores
from .training_run import TrainingRun

# Exit status: run me again. It is the PreemptionHook's.
INTERRUPTED = 75
SECONDS_BETWEEN_LINES = 30
POLL_SECONDS = 0.5


def only_writer(folder: Path) -> ContextManager[int]:
    """Hold a folder, so that no second process writes to it.

    As :func:`mixedae_mm.utils.files.lock`; trainings that inherit the file
    descriptor hold the folder too, also when this process was killed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    return lock(folder / '.lock', f'Another process is working in {folder}; wait for '
                'it or give another --work-dir.')


def train_all(runs: Sequence[TrainingRun], workers: int, threads: int,
              report: Callable[[str], None], keep_open: Sequence[int] = (),
              later_steps: int = 0, deadline: Optional[float] = None) -> None:
    """Do the runs that are not finished, in their order.

    On SIGTERM or SIGINT all trainings save a checkpoint and end, and so does
    the program.

    Args:
        runs (Sequence[TrainingRun]): A run stands behind the one it needs.
        workers (int): Trainings at a time.
        threads (int): Of PyTorch in each.
        report (Callable): Is told the progress and the time left, in lines.
        keep_open (Sequence[int]): File descriptors for the trainings.
        later_steps (int): Of trainings that will follow, for the time left.
        deadline (float, optional): As of ``time.time()``; then all are
            interrupted as by a signal.

    Raises:
        ConfigurationError: If a training fails; the others are stopped.
        SystemExit: After an interruption, when all have ended; with the
            status :data:`INTERRUPTED`.
    """
    for run in runs:
        if run.is_finished:
            run.check_setting()  # or it is the result of something else
    waiting = [run for run in runs if not run.is_finished]
    running: Dict[Future, Tuple[TrainingRun, subprocess.Popen]] = {}
    progress, last_line = _Progress(runs, later_steps), time.time()
    reasons: List[str] = []  # to stop
    with on_signals(reasons.append, signal.SIGTERM, signal.SIGINT), \
            ThreadPoolExecutor(workers) as pool:
        try:
            while (waiting or running) and not reasons:
                ready = [run for run in waiting
                         if run.needs is None or run.needs.is_finished]
                for run in ready[:workers - len(running)]:
                    waiting.remove(run)
                    process = run.start(threads, tuple(keep_open))
                    running[pool.submit(process.wait)] = run, process
                done, _ = wait(running, POLL_SECONDS, FIRST_COMPLETED)
                for future in done:
                    run, _ = running.pop(future)
                    if future.result() == INTERRUPTED:
                        reasons.append(f'{run.name} was interrupted')
                    elif not reasons:
                        run.check_end(future.result())
                        metrics = ''.join(
                            f'{name.rpartition("/")[2]} {value:.4g}, '
                            for name, value in run.measured().items())
                        report(f'finished {run.name}; {metrics}{progress}')
                if deadline is not None and time.time() > deadline:
                    reasons.append('The time is up')
                if time.time() > last_line + SECONDS_BETWEEN_LINES:
                    last_line = time.time()
                    report(f'{progress}: ' + ', '.join(
                        f'{run.name} {run.steps_done()}/{run.steps}'
                        for run, _ in running.values()))
        finally:
            for _, process in running.values():
                process.terminate()  # it saves a checkpoint and exits
    if reasons:
        report(f'{reasons[0]}: the trainings saved a checkpoint; the same command '
               'goes on from there.')
        raise SystemExit(INTERRUPTED)


@contextmanager
def on_signals(action: Callable[[str], None], *numbers: int) -> Iterator[None]:
    """Call ``action`` with the name of a signal instead of dying of it."""
    before = [signal.signal(number, lambda number, frame: action(
        signal.Signals(number).name)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)


def ending_with_us(process: subprocess.Popen) -> ContextManager[None]:
    """Pass SIGTERM on to a child, which outlives us otherwise.

    An interrupt from the keyboard goes to both anyway.
    """
    return on_signals(lambda name: process.terminate(), signal.SIGTERM)


def default_workers() -> int:
    """As many trainings as cores; on a GPU four, which small models share."""
    import torch
    if torch.cuda.is_available():
        return 4 * torch.cuda.device_count()
    return cpu_cores()


class _Progress:
    """Share of the work that is done, and the time that the rest will take."""

    def __init__(self, runs: Sequence[TrainingRun], later_steps: int) -> None:
        self.runs, self.begun = runs, time.time()
        self.total = later_steps + sum(run.steps * run.cost for run in runs)
        self.at_begin = self._done()

    def __str__(self) -> str:
        done = self._done()
        text = f'{100 * done / self.total:.0f} % done'
        if done > self.at_begin:
            seconds = (time.time() - self.begun) / (done - self.at_begin) * (
                self.total - done)
            text += f', about {max(1, round(seconds / 60))} min left'
        return text

    def _done(self) -> float:
        return sum(run.steps_done() * run.cost for run in self.runs)
