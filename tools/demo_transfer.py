#!/usr/bin/env python
"""Use the demo's pre-training: classify, segment and detect, and report on it.

Fine-tunes a classifier, an UperNet and a Cascade Mask R-CNN with the configs
of the paper's transfer, made small, on generated images with exact labels:
from random weights, from MAE and from MixedAE, both pre-trained equally long
on the same photographs. Starts from the demo's checkpoint and makes it, like
MAE's, if it is not there. What is finished is not repeated.
"""
import argparse
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Sequence

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmengine.device import get_device  # noqa: E402

from mixedae_mm.analysis.report import format_seconds, run_files  # noqa: E402
from mixedae_mm.analysis.run_log import read_run, training_seconds  # noqa: E402
from mixedae_mm.benchmark.compare import machine  # noqa: E402
from mixedae_mm.datasets.labelled_objects import (make_object_folder,  # noqa: E402
                                                  make_scene_folder)
from mixedae_mm.engine.launch import report_errors  # noqa: E402
from mixedae_mm.errors import ConfigurationError  # noqa: E402
from mixedae_mm.evaluation import transfer_demo, transfer_report  # noqa: E402
from mixedae_mm.models.checkpoint_reading import read_checkpoint  # noqa: E402

CONFIGS = ROOT / 'configs/demo/transfer'
TASKS = {task.name: task for task in transfer_demo.TASKS}
TRAIN = [sys.executable, str(ROOT / 'tools/train.py')]


def parse_arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--demo', type=Path, default=ROOT / 'work_dirs/demo',
                        help="the demo's work folder (default: work_dirs/demo)")
    parser.add_argument('--work-dir', type=Path,
                        default=ROOT / 'work_dirs/demo_transfer',
                        help='for data, checkpoints and the report '
                        '(default: work_dirs/demo_transfer)')
    parser.add_argument('--objects', type=int, nargs=2, default=(1200, 400),
                        metavar=('TRAIN', 'VAL'), help='images of one object')
    parser.add_argument('--scenes', type=int, nargs=2, default=(240, 60),
                        metavar=('TRAIN', 'VAL'), help='images of several objects')
    parser.add_argument('--tasks', nargs='+', metavar='TASK', default=list(TASKS),
                        choices=list(TASKS),
                        help=f'some of {" ".join(TASKS)} (default: all)')
    parser.add_argument('--parallel', type=int, help='fine-tunings at a time '
                        '(default: one a GPU, or one a core up to 4)')
    parser.add_argument('--cfg-options', nargs='+', default=[], metavar='KEY=VALUE',
                        help='changes to all fine-tunings, as in tools/train.py')
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    data = args.work_dir / 'data'
    print(f'1/5  Generating labelled images in {data}', flush=True)
    classes = transfer_demo.CLASSES
    make_object_folder(str(data / 'objects'), *args.objects, classes=classes)
    make_scene_folder(str(data / 'scenes'), *args.scenes, classes=classes)

    print('2/5  MixedAE pre-training, by the demo', flush=True)
    starts = {transfer_demo.RANDOM: None}
    mixedae, setting = demo_checkpoint(args.demo)
    print(f'3/5  MAE pre-training, {setting["train_cfg.max_iters"]} iterations too',
          flush=True)
    starts[transfer_demo.MAE] = mae_checkpoint(
        args.work_dir / 'mae', args.demo / 'data/train', setting)
    starts[transfer_demo.MIXEDAE] = mixedae

    runs = [
        transfer_demo.Run(task, start, checkpoint, CONFIGS / task.config,
                          data / task.data,
                          args.work_dir / f'{task.name}_{start.split()[0]}')
        for name, task in reversed(TASKS.items())  # the longest first
        if name in args.tasks
        for start, checkpoint in starts.items()
    ]
    waiting = [run for run in runs if run.result(args.cfg_options) is None]
    parallel, threads = args.parallel, 1
    if parallel is None:
        parallel = torch.cuda.device_count() or min(os.cpu_count(), 4)
        threads = max(1, os.cpu_count() // parallel)
    print(f'4/5  Fine-tuning: {len(waiting)} of {len(runs)} to do, {parallel} at a '
          'time', flush=True)
    transfer_demo.fine_tune_all(
        waiting, parallel, lambda run: transfer_demo.fine_tune(
            run, TRAIN, args.cfg_options, threads),
        lambda line: print('    ', line, flush=True))

    report = args.work_dir / 'report.html'
    print(f'5/5  Writing {report}', flush=True)
    results = {start: {} for start in starts}
    for run in runs:
        results[run.start].update(run.result(args.cfg_options))
    times = times_taken(args, runs, parallel)
    transfer_report.write_report(report, runs, results, data, setting, times)
    print()
    for line in transfer_demo.table(results):
        print(f'  {line[0]:<22}' + ''.join(f'{cell:>9}' for cell in line[1:]))
    print(f'\n{transfer_report.CAVEAT}\n')
    for what, text in times.items():
        print(f'  {what:<22} {text}')
    print(f'\nOpen the report: {report.resolve()}')


def times_taken(args: argparse.Namespace, runs: Sequence[transfer_demo.Run],
                parallel: int) -> Dict[str, str]:
    """What took how long, also in earlier calls, and the machine."""
    return {
        **{
            f'{name} pre-training': format_seconds(
                training_seconds(read_run(folder)))
            for name, folder in ((transfer_demo.MIXEDAE, args.demo),
                                 (transfer_demo.MAE, args.work_dir / 'mae'))
        },
        f'{len(runs)} fine-tunings': format_seconds(
            sum(run.seconds() for run in runs)) +
        f' in sum, {parallel} at a time',
        'machine': f'{os.cpu_count()} cores, ' + ', '.join(
            str(fact) for name, fact in machine(
                torch.device(get_device())).items() if name != 'threads'),
    }


def demo_checkpoint(folder: Path):
    """The demo's last checkpoint, and what MAE has to share with it."""
    try:
        config, checkpoint = run_files(folder)
        complete = iterations(checkpoint) >= Config.fromfile(
            config).train_cfg.max_iters
    except ConfigurationError:
        complete = False
    if not complete:
        status = subprocess.run([sys.executable, ROOT / 'tools/demo.py',
                                 '--work-dir', folder]).returncode
        if status:
            raise ConfigurationError(f'The demo ended with status {status}.')
        config, checkpoint = run_files(folder)
    config = Config.fromfile(config)
    return checkpoint.resolve(), {
        'train_cfg.max_iters': config.train_cfg.max_iters,
        'train_dataloader.batch_size': config.train_dataloader.batch_size,
    }


def mae_checkpoint(folder: Path, images: Path, setting: dict) -> Path:
    """MAE's checkpoint after as many steps; trained if it is not there."""
    steps, done = setting['train_cfg.max_iters'], 0
    try:
        config, checkpoint = run_files(folder)
        if Config.fromfile(config).train_cfg.max_iters == steps:
            done = iterations(checkpoint)
    except ConfigurationError:
        pass
    if done == steps:
        return checkpoint.resolve()
    options = dict(setting)
    options['param_scheduler.0.end'] = options['param_scheduler.1.begin'] = (
        steps // 10)
    options['param_scheduler.1.end'] = steps
    transfer_demo.train(
        [*TRAIN, str(CONFIGS / 'mae_vit-tiny_demo.py'), '--work-dir', str(folder),
         *(['--resume'] if done else []),
         '--cfg-options', *(f'{k}={v}' for k, v in options.items())],
        folder / 'train.log', images, min(os.cpu_count(), 4))
    return run_files(folder)[1].resolve()


def iterations(checkpoint: Path) -> int:
    """Training steps that a checkpoint has seen."""
    return read_checkpoint(str(checkpoint))['meta']['iter']


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
