#!/usr/bin/env python
"""Fine-tune on the eleven small sets of Table 2; `--help` lists the options."""

import argparse
import os
import sys
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A checkout runs without being installed, from any directory.
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

from mmengine.config import DictAction

from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.errors import ConfigurationError
from reproduce.scheduling import only_writer, train_all
from transfer import eleven_sets


def parse_arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Fine-tune on the eleven small sets of Table 2: a sweep over '
        'learning rate and weight decay on validation images, then one test. '
        'What is finished is not repeated, and a run that was interrupted goes on '
        'where it was: repeat the command. Other weights, images or options make '
        'other runs.')
    parser.add_argument('checkpoint', help='pre-trained weights')
    parser.add_argument('--sets', nargs='+', choices=list(eleven_sets.SETS),
                        default=list(eleven_sets.SETS), metavar='SET',
                        help=f'some of {" ".join(eleven_sets.SETS)} (default: all)')
    parser.add_argument('--data-root', help='the folder that holds all sets under '
                        'their usual names (default: data, as the configs say)')
    parser.add_argument('--work-dir', type=Path, default=Path('work_dirs/eleven'))
    parser.add_argument('--learning-rates', nargs='+', type=float, metavar='LR',
                        default=eleven_sets.LEARNING_RATES)
    parser.add_argument('--weight-decays', nargs='+', type=float, metavar='WD',
                        default=eleven_sets.WEIGHT_DECAYS)
    parser.add_argument('--gpus', type=int, default=1, help='processes per run; the '
                        'batch of 64 is divided among them')
    parser.add_argument('--parallel', type=int, default=1, help='runs at a time')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE', help='changes to every config')
    return parser.parse_args(argv)


def transfer(args: argparse.Namespace) -> None:
    if args.parallel < 1 or args.gpus < 1:
        raise ConfigurationError('--parallel and --gpus must be at least 1.')
    os.environ.pop('DATA_ROOT', None)  # of one set; here there are eleven
    threads = max(1, os.cpu_count() // (args.parallel * args.gpus))
    if args.gpus > 1:
        args.cfg_options.setdefault('train_dataloader.batch_size', 64 // args.gpus)
    with only_writer(args.work_dir) as lock:
        print(eleven_sets.transfer(
            args.sets, ROOT / 'configs/classification/small_sets', args.work_dir,
            args.data_root, args.checkpoint,
            eleven_sets.grid(args.learning_rates, args.weight_decays),
            args.cfg_options,
            lambda runs, later_steps: train_all(
                runs, args.parallel, threads, partial(print, flush=True), [lock],
                later_steps),
            args.gpus))


if __name__ == '__main__':
    sys.exit(report_errors(transfer, parse_arguments()))
