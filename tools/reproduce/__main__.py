#!/usr/bin/env python
"""Test the paper's claims in a small controlled experiment, with a report.

Pre-trains MAE, naive mixing, MixedAE and the variants between them on the same
images with the same number of steps, measures all of them, and writes report.html,
results.json and results.csv. Every training is an ordinary run of
tools/train.py. What is finished is not repeated, and a training that was
interrupted goes on where it was: repeat the command.

  tiny    less than two hours on two cores
  small   for one large GPU; in pieces with --minutes
  paper   print the commands for ImageNet, and what they cost
  smoke   a minute or two, to try the command
"""
import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

from mixedae_mm.launch.entry import report_errors
from reproduce.command import run


def parse_args(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='tiny',
                        help='tiny (default), small, paper or smoke')
    parser.add_argument('--work-dir', type=Path,
                        help='default: work_dirs/reproduce/PRESET')
    parser.add_argument('--images', type=Path, metavar='FOLDER',
                        help='pre-train on and classify FOLDER/{train,val}/<class>/* '
                        'instead of generated images')
    parser.add_argument('--variants', nargs='+', metavar='NAME',
                        help='only these variants, by the names in configs/reproduce, '
                        'or full_images: full mode on as many images as compose mode')
    parser.add_argument('--seeds', type=int, help='number of runs of each variant')
    parser.add_argument('--steps', type=int,
                        help='number of steps of each pre-training')
    parser.add_argument('--learning-rate', type=float, metavar='LR',
                        help='of each pre-training, instead of that of the preset')
    parser.add_argument('--minutes', type=float,
                        help='stop after this time with status 75; the same command '
                        'goes on')
    parser.add_argument('--workers', type=int,
                        help='trainings at a time (default: one per core, four '
                        'per GPU)')
    parser.add_argument('--threads', type=int, default=1,
                        help='threads of PyTorch in each training (default: 1)')
    parser.add_argument('--no-finetune', action='store_true',
                        help='leave out the fine-tunings')
    parser.add_argument('--train-only', action='store_true',
                        help='train, but do not measure and report yet')
    parser.add_argument('--report-only', action='store_true',
                        help='do not train; report on what is finished')
    parser.add_argument('--claims', type=Path, metavar='FILE',
                        help='also write the page about each claim of the paper')
    parser.add_argument('--results', type=Path, metavar='JSON',
                        help='only write that page, from a results.json')
    parser.add_argument('--images-per-second', type=float,
                        help='of one GPU, for the costs that the preset paper prints')
    return parser.parse_args(argv)


if __name__ == '__main__':
    sys.exit(report_errors(run, parse_args()))
