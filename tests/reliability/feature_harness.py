"""Extract features of many images, kill it in the middle, go on; measure it all."""
import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

import numpy as np
import psutil
import torch

from mixedae_mm.utils.machine import machine
from demo.photographs import load_photographs
from mixedae_mm.apis.encoder import load
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.apis.features import PART_SIZE, pyarrow

TOOL = ('import sys; from mixedae_mm.launch.entry import report_errors; '
        'from mixedae_mm.interop import feature_extraction as f; '
        'f.PART_SIZE = {part_size}; '
        'sys.exit(report_errors(f.run, f.parse_arguments()))')


class Run(NamedTuple):
    """One run of the command.

    Attributes:
        output (str): What it printed, empty if it was killed.
        seconds (float): With start-up.
        peak_memory (int): Bytes, of all its processes; shared ones counted once.
    """
    output: str
    seconds: float
    peak_memory: int


def make_images(folder: Path, count: int, side: int = 256, seed: int = 0) -> None:
    """Different crops of scikit-image's photographs, as JPEG files."""
    photographs = list(load_photographs().values())
    random = np.random.default_rng(seed)
    for i in range(count):
        image = photographs[i % len(photographs)]
        size = int(random.integers(min(image.size) // 3, min(image.size)))
        left, top = (int(random.integers(0, extent - size + 1))
                     for extent in image.size)
        place = folder / f'{i // 1000:03d}'
        place.mkdir(exist_ok=True, parents=True)
        image.resize((side, side), box=(left, top, left + size, top + size)).save(
            place / f'{i:06d}.jpg', quality=90)


def extract(folder: Path, out: Path, checkpoint: str, options: Sequence[str],
            part_size: int = PART_SIZE, kill_after: Optional[int] = None) -> Run:
    """Run the command; kill it (SIGKILL) after so many parts.

    Raises:
        ConfigurationError: If it failed, or ended before it could be killed.
    """
    command = [sys.executable, '-c', TOOL.format(part_size=part_size), str(folder),
               str(out), '--checkpoint', checkpoint, *options]
    started, peak = time.monotonic(), 0
    with tempfile.TemporaryFile('w+') as printed:
        process = subprocess.Popen(command, stdout=printed, stderr=printed, text=True,
                                   start_new_session=True)
        while process.poll() is None:
            peak = max(peak, memory(process.pid))
            parts = list(out.parent.glob(out.name + '.parts/part-*'))
            if kill_after and len(parts) >= kill_after:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                return Run('', time.monotonic() - started, peak)
            time.sleep(0.1)
        printed.seek(0)
        output = printed.read()
    if process.returncode or kill_after:
        raise ConfigurationError(
            'The extraction ended with status '
            f'{process.returncode}, but should not have:\n{output[-2000:]}')
    return Run(output, time.monotonic() - started, peak)


def memory(pid: int) -> int:
    """Bytes of a process and its children now."""
    total = 0
    try:
        main = psutil.Process(pid)
        for process in [main, *main.children(recursive=True)]:
            total += process.memory_full_info().pss
    except psutil.Error:  # one of them has just ended
        pass
    return total


def check(folder: Path, out: Path, checkpoint: str, sample: int = 64) -> float:
    """Every image once, with its own feature; the largest difference of a sample.

    Raises:
        ConfigurationError: If one is missing, twice or foreign.
    """
    table = pyarrow().parquet.read_table(out)
    paths: List[str] = table['path'].to_pylist()
    files = {str(file.relative_to(folder)) for file in folder.rglob('*.jpg')}
    if len(paths) != len(set(paths)) or set(paths) != files:
        raise ConfigurationError(
            f'{out} has {len(paths)} rows, {len(set(paths))} of them different, for '
            f'{len(files)} images.')
    rows = np.random.default_rng(0).choice(len(paths), min(sample, len(paths)), False)
    features = table['feature'].combine_chunks().flatten().to_numpy().reshape(
        len(paths), -1)[rows]
    again = load(checkpoint).features([folder / paths[row] for row in rows]).numpy()
    return float(np.abs(features - again).max())


def run(args: argparse.Namespace) -> None:
    """Do what the command line says and print the figures."""
    work_dir = Path(args.work_dir)
    images, out = work_dir / 'images', work_dir / 'features.parquet'
    if out.exists() or out.with_name(out.name + '.parts').exists():
        raise ConfigurationError(f'{out} is there from before; delete {work_dir}.')
    if len(list(images.rglob('*.jpg'))) != args.images:
        make_images(images, args.images)
    options = ['--workers', str(args.workers), '--batch-size', str(args.batch_size)]
    killed = extract(images, out, args.checkpoint, options, args.part_size,
                     args.kill_after)
    print(f'killed after {killed.seconds:.0f} s and {args.kill_after} parts; '
          f'peak memory {killed.peak_memory / 2**20:.0f} MiB, of all processes')
    resumed = extract(images, out, args.checkpoint, options, args.part_size)
    print(resumed.output.strip().splitlines()[-1])
    print(f'resumed and finished after {resumed.seconds:.0f} s with start-up; '
          f'peak memory {resumed.peak_memory / 2**20:.0f} MiB, of all processes')
    difference = check(images, out, args.checkpoint)
    print(f'{args.images} images, each of them once; largest difference of a sample to '
          f'features computed again: {difference:.1e}')
    print('machine:', ', '.join(map(str, machine(torch.device('cpu')).values())))


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/feature_test.py``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='of mixedae_mm, mmpretrain, timm, ...')
    parser.add_argument('--work-dir', default='work_dirs/feature_test',
                        help='for images and features (default: %(default)s)')
    parser.add_argument('--images', type=int, default=20000)
    parser.add_argument('--kill-after', type=int, default=4, metavar='PARTS',
                        help='parts that are written when it is killed (default: 4)')
    parser.add_argument('--part-size', type=int, default=PART_SIZE,
                        help='images a part (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument('--batch-size', type=int, default=64)
    return parser.parse_args(argv)
