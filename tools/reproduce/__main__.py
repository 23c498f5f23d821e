#!/usr/bin/env python
"""Test the paper's claims in a small controlled experiment, with a report.

Pre-trains MAE, naive mixing, MixedAE and the variants between them on the same
images with the same number of steps, measures all of them, and writes report.html,
results.json and results.csv. Every training is an ordinary run of
tools/train.py. What is finished is not repeated, and a training that was
interrupted goes on where it was: repeat the command.

  tiny    less than two hours on two cores
  small   for one large GPU, about 12 minutes by estimate; in pieces with --minutes
  paper   print the commands for ImageNet, and what they cost
  smoke   a minute or two, to try the command
"""
import argparse
import json
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

from jinja2 import UndefinedError

from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import (output_file, path, positive_float,
                                        positive_int)
from mixedae_mm.utils.errors import ConfigurationError
from reproduce import page, paper_scale, results, verdicts
from reproduce.experiment import Experiment
from reproduce.presets import ALL, PRESETS
from reproduce.scheduling import default_workers, only_writer


def parse_arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--preset', default='tiny', choices=[*PRESETS, 'paper'],
                        metavar='NAME',
                        help='tiny (default), small, paper or smoke')
    parser.add_argument('--work-dir', type=path,
                        help='default: work_dirs/reproduce/PRESET')
    parser.add_argument('--images', type=path, metavar='FOLDER',
                        help='pre-train on and classify FOLDER/{train,val}/<class>/* '
                        'instead of generated images')
    parser.add_argument('--variants', nargs='+', metavar='NAME',
                        choices=[variant.name for variant in ALL],
                        help='only these variants, by the names in configs/reproduce, '
                        'or full_images: full mode on as many images as compose mode')
    parser.add_argument('--seeds', type=positive_int,
                        help='number of runs of each variant')
    parser.add_argument('--steps', type=positive_int,
                        help='number of steps of each pre-training')
    parser.add_argument('--learning-rate', type=float, metavar='LR',
                        help='of each pre-training, instead of those of the preset')
    parser.add_argument('--minutes', type=positive_float,
                        help='stop after this time with status 75; the same command '
                        'goes on')
    parser.add_argument('--workers', type=positive_int,
                        help='trainings at a time (default: one per core, four '
                        'per GPU)')
    parser.add_argument('--threads', type=positive_int, default=1,
                        help='threads of PyTorch in each training (default: 1)')
    parser.add_argument('--no-finetune', action='store_true',
                        help='leave out the fine-tunings')
    part = parser.add_mutually_exclusive_group()
    part.add_argument('--train-only', action='store_true',
                      help='train, but do not measure and report yet')
    part.add_argument('--report-only', action='store_true',
                      help='do not train; report on what is finished')
    parser.add_argument('--claims', type=output_file(), metavar='FILE',
                        help='also write the page about each claim of the paper')
    parser.add_argument('--results', type=path, metavar='JSON',
                        help='only write that page, from a results.json')
    parser.add_argument('--images-per-second', type=positive_float,
                        help='of one GPU, for the costs that the preset paper prints')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Train what is missing, measure, report."""
    is_paper = args.preset == 'paper'
    if args.images_per_second and not is_paper:
        raise ConfigurationError('--images-per-second goes with --preset paper.')
    if args.claims and (is_paper or args.train_only):
        raise ConfigurationError(
            '--claims is a page about measurements: leave out '
            f'{"--preset paper" if is_paper else "--train-only"}, which makes none.')
    if is_paper:
        print(paper_scale.commands(args.images_per_second), end='')
        return
    if args.results is not None:
        _write_claims(args)
        return
    preset = PRESETS[args.preset]
    folder = args.work_dir or Path('work_dirs/reproduce') / preset.name
    experiment = Experiment(preset, folder, args.images, args.seeds, args.steps,
                            args.learning_rate, args.variants)
    with only_writer(experiment.folder) as lock:
        _run(experiment, args, lock)


def _run(experiment: Experiment, args: argparse.Namespace, lock: int) -> None:
    begun = time.time()
    if args.claims:
        page.around_marks(args.claims)  # before hours of training
    deadline = begun + 60 * args.minutes if args.minutes else None
    if not args.report_only:
        experiment.check_images()
        print(f'1/3  Generating images in {experiment.data}', flush=True)
        experiment.make_data()
        workers = args.workers or default_workers()
        print(f'2/3  Training: {len(experiment.wanted())} pre-trainings of '
              f'{experiment.preset.steps} steps, {workers} at a time; '
              f'logs below {experiment.folder / "runs"}', flush=True)
        experiment.train(workers, args.threads, _say, [lock],
                         not args.no_finetune, deadline)
    if args.train_only:
        return
    print('3/3  Measuring', flush=True)
    outcomes = experiment.outcomes(_say, deadline)
    summary = results.summarise(experiment, outcomes)
    results.write_results(experiment.folder, summary, outcomes)
    report = page.write_experiment_report(experiment, outcomes, summary)
    print()
    for line in verdicts.verdict_lines(summary):
        print(line)
    if args.claims:
        page.write_claims_page(args.claims, page.render_measurements(summary))
        print(f'wrote {args.claims}')
    print(f'\nThis took {(time.time() - begun) / 60:.1f} minutes. '
          f'Open the report: {report}')


def _write_claims(args: argparse.Namespace) -> None:
    """The page alone, from numbers that were measured before."""
    if args.claims is None:
        raise ConfigurationError('--results goes with --claims FILE, the page.')
    try:
        measured = page.render_measurements(json.loads(args.results.read_text()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError,
            UndefinedError) as error:
        raise ConfigurationError(
            f'{args.results} is not a results.json of this command '
            f'({type(error).__name__}: {error}).') from error
    page.write_claims_page(args.claims, measured)
    print(f'wrote {args.claims}')


def _say(line: str) -> None:
    print('    ', line, flush=True)


if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
