"""Time contenders by turns in one process, measure memory, and print tables."""
import multiprocessing
import os
import statistics
import time
from pathlib import Path
from typing import Callable, Dict, List
from unittest import mock

import torch

from mixedae_mm.utils.tables import text_table


def in_own_process(function: Callable, *arguments):
    """Return what a function returns in a new process.

    There the allocator gives large blocks back to the system as soon as they are
    freed, so that the resident memory is the memory in use.
    """
    with mock.patch.dict(os.environ, MALLOC_MMAP_THRESHOLD_='65536'), \
            multiprocessing.get_context('spawn').Pool(1) as pool:
        return pool.apply(function, arguments)


def peak_memory(run: Callable[[], None], device: torch.device) -> int:
    """Measure the bytes that a call takes at its peak, above those taken before.

    On a GPU it is what PyTorch allocated. On a CPU it is the resident memory of the
    process, read from Linux; call this function :func:`in_own_process`.
    """
    if device.type == 'cuda':
        torch.cuda.init()  # else a device by its number has no memory yet
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    Path('/proc/self/clear_refs').write_text('5')  # forget the peak so far
    before = _resident_bytes('VmRSS')
    run()
    return _resident_bytes('VmHWM') - before


def _resident_bytes(key: str) -> int:
    status = Path('/proc/self/status').read_text()
    return int(status.split(f'{key}:')[1].split()[0]) * 1024


def repeated(run: Callable[[], object], times: int) -> Callable[[], None]:
    """Return a function that calls another several times."""

    def runs() -> None:
        for _ in range(times):
            run()

    return runs


def alternate(contenders: Dict[str, Callable[[], None]], device: torch.device,
              repeats: int = 7, warmup: int = 2) -> Dict[str, List[float]]:
    """Return the seconds of each run, after ``warmup`` rounds that are not measured.

    Every contender runs once per round, so that drift affects all alike.
    """

    def now() -> float:
        if device.type == 'cuda':  # a clock should read finished work
            torch.cuda.synchronize(device)
        return time.perf_counter()

    seconds: Dict[str, List[float]] = {name: [] for name in contenders}
    for _ in range(warmup + repeats):
        for name, run in contenders.items():
            start = now()
            run()
            seconds[name].append(now() - start)
    return {name: found[warmup:] for name, found in seconds.items()}


def summarize(seconds: Dict[str, List[float]], peer: str) -> List[dict]:
    """Per contender a row: ``name``, ``median_s``, and its ratio to the peer.

    ``ratio``, ``ratio_min`` and ``ratio_max`` are of the ratios of all rounds.
    """
    rows = []
    for name, own in seconds.items():
        ratios = [a / b for a, b in zip(own, seconds[peer])]
        rows.append(dict(
            name=name, median_s=statistics.median(own),
            ratio=statistics.median(ratios), ratio_min=min(ratios),
            ratio_max=max(ratios)))
    return rows


def with_ratios(rows: List[dict], key: str) -> List[dict]:
    """Add ``ratio``: ``key`` divided by that of the first row, the peer's."""
    return [dict(row, ratio=row[key] / rows[0][key]) for row in rows]


def as_table(title: str, rows: List[dict]) -> str:
    """Return a plain-text table of dicts with equal keys."""
    return f'{title}\n' + text_table(list(rows[0]), [
        [f'{value:.4g}' if isinstance(value, float) else str(value)
         for value in row.values()] for row in rows])
