#!/usr/bin/env python
"""Use the demo's pre-training: classify, segment and detect, and report on it.

Fine-tunes a classifier, an UperNet and a Cascade Mask R-CNN with the configs
of the paper's transfer, made small, on generated images with exact labels.
The detector is tested on the dozen scenes that it learns by heart; the task
unseen-scenes, for a GPU, tests it on others.
Each starts from random weights, from MAE and from MixedAE, both pre-trained
equally long on the same photographs. A pre-training that is missing is done
first, MixedAE by the demo. What is finished is not repeated, and a training
that was interrupted goes on where it was: repeat the command.
"""
import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path
from textwrap import indent
from typing import Dict, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

import torch
from mmengine.config import Config
from mmengine.device import get_device

from demo import make_object_folder, make_scene_folder
from mixedae_mm.analysis.page import write_page
from mixedae_mm.analysis.report import format_seconds, run_files
from mixedae_mm.analysis.run_log import read_run, training_seconds
from mixedae_mm.launch.entry import add_config_options, report_errors
from mixedae_mm.models.checkpoint_reading import read_checkpoint
from mixedae_mm.utils.arguments import path, positive_int
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.machine import cpu_cores, machine
from mixedae_mm.utils.tables import text_table
from reproduce.scheduling import (INTERRUPTED, default_workers,
                                  ending_with_us, only_writer, train_all)
from transfer import fine_tunings
from transfer.fine_tunings import MAE, MIXEDAE, RANDOM, TASKS, UNSEEN
from transfer.pictures import draw_predictions

TEMPLATE = Path(__file__).with_name('templates') / 'report.html'
CAVEAT = (
    'A ViT of 1.2 million parameters, minutes of pre-training on crops of a '
    'few photographs, some hundred steps of fine-tuning, one seed: this shows '
    'that the same weights work in all three toolboxes, and whether '
    'pre-training helps. Guessing has a top-1 of 25, background everywhere an '
    'mIoU of 15. "By heart" is the precision on the dozen scenes that the detector '
    'was trained on: that it can learn, not what it would find elsewhere. It cannot '
    'rank MixedAE and MAE: with one seed, a difference between them may be chance.')


def parse_arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--demo', type=path, default=ROOT / 'work_dirs/demo',
                        help="the demo's work folder (default: work_dirs/demo)")
    parser.add_argument('--work-dir', type=path,
                        default=ROOT / 'work_dirs/demo_transfer',
                        help='for data, checkpoints and the report '
                        '(default: work_dirs/demo_transfer)')
    parser.add_argument('--objects', type=positive_int, nargs=2, default=(1200, 400),
                        metavar=('TRAIN', 'VAL'), help='images of one object')
    parser.add_argument('--scenes', type=positive_int, nargs=2, default=(240, 60),
                        metavar=('TRAIN', 'VAL'), help='images of several objects')
    parser.add_argument('--tasks', nargs='+', metavar='TASK', choices=list(TASKS),
                        default=[name for name in TASKS if name != UNSEEN],
                        help=f'some of {" ".join(TASKS)} (default: all but the last)')
    parser.add_argument('--parallel', type=positive_int,
                        help='trainings at a time '
                        '(default: one per core; four per GPU)')
    add_config_options(parser)  # changes to all fine-tunings
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    args.work_dir, args.demo = args.work_dir.resolve(), args.demo.resolve()
    with only_writer(args.work_dir) as lock:
        fine_tune(args, lock)


def fine_tune(args: argparse.Namespace, lock: int) -> None:
    begun = time.time()
    data = args.work_dir / 'data'
    print(f'1/4  Generating labelled images in {data}', flush=True)
    classes = fine_tunings.CLASSES
    make_object_folder(str(data / 'objects'), *args.objects, classes=classes)
    make_scene_folder(str(data / 'scenes'), *args.scenes, classes=classes)
    if 'detection' in args.tasks:
        make_scene_folder(str(data / 'dozen'), 12, 1, size=96, max_objects=3,
                          classes=classes, radii=(0.16, 0.28))

    print('2/4  MixedAE pre-training, by the demo', flush=True)
    mixedae, setting = demo_checkpoint(args.demo)
    mae = fine_tunings.mae_pretraining(
        args.work_dir / 'mae', args.demo / 'data/train', **setting)
    starts = {RANDOM: (None, None), MAE: (mae.checkpoint, mae),
              MIXEDAE: (mixedae, None)}
    runs = [
        fine_tunings.fine_tuning(
            task, start, checkpoint, data,
            (args.objects if name == 'classification' else args.scenes)[0],
            args.work_dir, args.cfg_options, needs)
        for name, task in reversed(TASKS.items())  # the longest first
        if name in args.tasks
        for start, (checkpoint, needs) in starts.items()
    ]
    trainings = [mae, *(run.training for run in runs)]
    forget_other_settings(trainings)
    parallel = args.parallel or min(default_workers(), len(trainings))
    print(f"3/4  MAE's pre-training, {setting['steps']} steps too, and {len(runs)} "
          f'fine-tunings, {parallel} at a time', flush=True)
    train_all(trainings, parallel, max(1, cpu_cores() // parallel),
              lambda line: print('    ', line, flush=True), [lock])

    report = args.work_dir / 'report.html'
    print(f'4/4  Writing {report}', flush=True)
    results = {start: {} for start in starts}
    for run in runs:
        results[run.start].update(run.results())
    times = times_taken(args, runs, parallel)
    write_report(report, runs, results, setting, times)
    print()
    header, *rows = fine_tunings.results_table(results)
    print(indent(text_table(header, rows), '  '))
    print(f'\n{CAVEAT}\n')
    for what, text in times.items():
        print(f'  {what:<22} {text}')
    print(f'\nThis took {(time.time() - begun) / 60:.1f} minutes. '
          f'Open the report: {report}')


def write_report(out: Path, runs: Sequence[fine_tunings.FineTuning],
                 results: Dict[str, Dict[str, float]], setting: Mapping[str, int],
                 times: Mapping[str, str]) -> None:
    """Write the page, which needs no other file.

    Of all fine-tunings, finished; ``results`` are start -> column -> percent,
    ``setting`` steps and batch size of both pre-trainings, ``times`` how long each part
    took, and the machine.
    """
    of_task = {name: found for name in TASKS
               if (found := [run for run in runs if run.task.name == name])}
    lengths = []
    for name, found in of_task.items():
        config = Config.fromfile(found[0].training.saved_config)
        steps, epochs = map(config.train_cfg.get, ('max_iters', 'max_epochs'))
        lengths.append([name, found[0].task.data,
                        f'{steps} steps' if steps else f'{epochs} epochs',
                        str(config.train_dataloader.batch_size)])
    write_page(
        out, TEMPLATE, setting=setting, caveat=CAVEAT, lengths=lengths, times=times,
        results=fine_tunings.results_table(results),
        pictures={name: draw_predictions(found) for name, found in of_task.items()})


def forget_other_settings(trainings: Sequence) -> None:
    """Delete runs with other data, weights or options, which are then done anew."""
    for training in trainings:
        if changed := training.changes():
            print(f'     {training.name} is done anew: {changed[0]}', flush=True)
            shutil.rmtree(training.folder)


def times_taken(args: argparse.Namespace,
                runs: Sequence[fine_tunings.FineTuning],
                parallel: int) -> Dict[str, str]:
    """Return how long each part took, earlier calls included, and the machine."""
    def seconds(folder: Path) -> float:
        try:
            return training_seconds(read_run(folder))
        except ConfigurationError:  # too short to log anything
            return 0.0

    return {
        'MixedAE pre-training': format_seconds(seconds(args.demo)),
        'MAE pre-training': format_seconds(seconds(args.work_dir / 'mae')),
        f'{len(runs)} fine-tunings': format_seconds(
            sum(seconds(run.training.folder) for run in runs)) +
        f' of training steps in sum, {parallel} at a time',
        'machine now': f'{cpu_cores()} cores, ' + ', '.join(
            str(fact) for name, fact in machine(
                torch.device(get_device())).items() if name != 'threads'),
    }


def demo_checkpoint(folder: Path):
    """Return the demo's last checkpoint, and the setting that MAE has to share."""
    try:
        config, checkpoint = run_files(folder)
        complete = read_checkpoint(str(checkpoint))['meta']['iter'] >= (
            Config.fromfile(config).train_cfg.max_iters)
    except ConfigurationError:
        complete = False
    if not complete:
        demo = subprocess.Popen(
            [sys.executable, ROOT / 'tools/demo', '--work-dir', folder])
        try:
            with ending_with_us(demo):
                status = demo.wait()
        except KeyboardInterrupt:  # the demo got it too
            status = demo.wait() or INTERRUPTED
        if status:  # it said why
            sys.exit(status)
        config, checkpoint = run_files(folder)
    config = Config.fromfile(config)
    return checkpoint.resolve(), dict(
        steps=config.train_cfg.max_iters,
        batch_size=config.train_dataloader.batch_size)


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
