#!/usr/bin/env python
"""Pre-train a small MixedAE on real photographs, and write a report about it.

Packs the photographs that ship inside scikit-image into an image folder,
trains configs/demo/mixedae_vit-tiny_demo.py on it with tools/train.py (on a
GPU if there is one), and writes report.html. A training that was interrupted
goes on where its last checkpoint is; one that had finished is done again.
"""
import argparse
import os
import subprocess
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any, Mapping

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

from demo import make_photograph_folder
from mixedae_mm.analysis.report import run_files, write_run_report
from mixedae_mm.config.boundary import read_config
from mixedae_mm.launch.entry import add_config_options, report_errors
from mixedae_mm.models.checkpoint_reading import read_checkpoint
from mixedae_mm.utils.arguments import path
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.machine import cpu_cores
from reproduce.scheduling import INTERRUPTED, ending_with_us

CONFIG = ROOT / 'configs/demo/mixedae_vit-tiny_demo.py'
# The rest of what mmengine prints is in the log file.
SHOWN = ('Iter(train)', 'TopK sampling accuracy', 'resumed epoch')


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        '--work-dir', type=path, default=os.path.relpath(ROOT / 'work_dirs/demo'),
        help='for data, checkpoints, logs and report (default: %(default)s)')
    add_config_options(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    work_dir = args.work_dir
    times = {}

    print('1/3  Packing photographs into', work_dir / 'data', flush=True)
    start = time.time()
    make_photograph_folder(str(work_dir / 'data'))
    times['packing the photographs'] = time.time() - start

    done = iterations_done(work_dir)
    iterations = read_config(str(CONFIG), args.cfg_options).train_cfg.max_iters
    is_interrupted = 0 < done < iterations
    print(f'2/3  Training for {iterations} iterations' +
          (f', from iteration {done} where it was interrupted'
           if is_interrupted else ''), flush=True)
    start = time.time()
    pretrain(work_dir, args.cfg_options, resume=is_interrupted)
    times['training with start-up'] = time.time() - start

    report = work_dir / 'report.html'
    print('3/3  Writing', report, flush=True)
    headline = write_run_report(work_dir, work_dir / 'data/val', report, times)
    print()
    width = max(map(len, headline))
    for label, text in headline.items():
        print(f'  {label:<{width}}  {text}')
    print(f'\nOpen the report: {report.resolve()}')


def iterations_done(work_dir: Path) -> int:
    """Iterations of the latest checkpoint, 0 if there is none."""
    try:
        _, checkpoint = run_files(work_dir)
        return read_checkpoint(str(checkpoint))['meta']['iter']
    except ConfigurationError:
        return 0


def pretrain(work_dir: Path, options: Mapping[str, Any], resume: bool) -> None:
    """Run tools/train.py and show its progress.

    Raises:
        ConfigurationError: If it fails, after its last lines were printed.
    """
    command = [
        sys.executable, ROOT / 'tools/train.py', CONFIG, '--work-dir', work_dir
    ]
    if resume:
        command.append('--resume')
    if options:
        command += ['--cfg-options', *(f'{key}={value}' for key, value in
                                       options.items())]
    environment = dict(
        os.environ,
        DATA_ROOT=str(work_dir / 'data/train'),
        PYTHONUNBUFFERED='1')
    # A small model gets slower on many threads.
    environment.setdefault('OMP_NUM_THREADS', str(min(cpu_cores(), 4)))
    process = subprocess.Popen(
        list(map(str, command)),
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True)
    latest = deque(maxlen=30)
    try:
        with ending_with_us(process):
            for line in process.stdout:
                latest.append(line)
                if ' - INFO - ' in line and any(part in line for part in SHOWN):
                    print('    ', line.rpartition(' - INFO - ')[2], end='',
                          flush=True)
            status = process.wait()
    except KeyboardInterrupt:  # the training got it too
        status = process.wait() and INTERRUPTED
    if status == INTERRUPTED:
        print('     Interrupted; the same command goes on from the last '
              'checkpoint.', flush=True)
        sys.exit(INTERRUPTED)
    if status:
        print(''.join(latest), file=sys.stderr)
        raise ConfigurationError(
            f'The training stopped with exit status {status}; its last lines '
            f'are above, all of them in {work_dir}/*/*.log.')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
