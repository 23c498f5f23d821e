"""What ``tools/reproduce`` does."""
import argparse
import json
import time
from pathlib import Path

from jinja2 import UndefinedError

from mixedae_mm.utils.errors import ConfigurationError
from . import claims_page, page, paper_scale, results, verdicts
from .experiment import Experiment
from .presets import preset_named
from .scheduling import default_workers, only_writer


def run(args: argparse.Namespace) -> None:
    """Train what is missing, measure, report."""
    if args.preset == 'paper':
        print('\n'.join(paper_scale.commands(args.images_per_second)))
        return
    if args.results is not None:
        _write_claims(args)
        return
    preset = preset_named(args.preset)
    for name in ('workers', 'threads'):
        if (getattr(args, name) or 1) < 1:
            raise ConfigurationError(f'--{name} must be at least 1.')
    folder = args.work_dir or Path('work_dirs/reproduce') / preset.name
    if args.minutes is not None and args.minutes <= 0:
        raise ConfigurationError('--minutes must be above 0.')
    experiment = Experiment(preset, folder, args.images, args.seeds, args.steps,
                            args.learning_rate, args.variants)
    with only_writer(experiment.folder) as lock:
        _run(experiment, args, lock)


def _run(experiment: Experiment, args: argparse.Namespace, lock: int) -> None:
    begun = time.time()
    deadline = begun + 60 * args.minutes if args.minutes else None
    if not args.report_only:
        print(f'1/3  Generating images in {experiment.data}', flush=True)
        experiment.make_data()
        workers = args.workers or default_workers()
        runs = experiment.pretrainings()
        print(f'2/3  Training: {len(runs)} pre-trainings of '
              f'{experiment.preset.steps} steps, {workers} at a time; '
              f'logs below {experiment.folder / "runs"}', flush=True)
        experiment.train(workers, args.threads, _say, [lock],
                         not args.no_finetune, deadline)
    if args.train_only:
        return
    print('3/3  Measuring', flush=True)
    outcomes = experiment.outcomes(_say, deadline)
    summary = results.summarise(experiment, outcomes)
    results.write(experiment.folder, summary, outcomes)
    report = page.write_report(experiment, outcomes, summary)
    print()
    for line in verdicts.table(summary):
        print(line)
    if args.claims:
        claims_page.write_page(args.claims, summary)
        print(f'wrote {args.claims}')
    print(f'\nThis took {(time.time() - begun) / 60:.1f} minutes. '
          f'Open the report: {report}')


def _write_claims(args: argparse.Namespace) -> None:
    """The page alone, from numbers that were measured before."""
    if args.claims is None:
        raise ConfigurationError('--results goes with --claims FILE, the page.')
    try:
        summary = json.loads(args.results.read_text())
        claims_page.write_page(args.claims, summary)
    except (OSError, ValueError, KeyError, UndefinedError) as error:
        raise ConfigurationError(
            f'{args.results} is not a results.json of this command '
            f'({type(error).__name__}: {error}).') from error
    print(f'wrote {args.claims}')


def _say(line: str) -> None:
    print('    ', line, flush=True)
