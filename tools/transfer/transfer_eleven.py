#!/usr/bin/env python
"""Fine-tune on the eleven small classification sets of Table 2.

The protocol is that of Kornblith et al. (2019) and Ericsson et al. (2021): learning
rate and weight decay are chosen on validation images (the set's own, or a fifth of the
training images); then the model is trained with them on all training images, and tested
once. What is finished is not repeated, and a run that was interrupted goes on where it
was: repeat the command. Other weights, images or options make other runs.
"""
import argparse
import copy
import os
import sys
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Dict, Iterable, List, NamedTuple, Sequence

ROOT = Path(__file__).resolve().parents[2]
# A checkout runs without being installed, from any directory.
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

from mmengine.config import Config

from mixedae_mm.launch.entry import add_config_options, report_errors
from mixedae_mm.utils.arguments import path, positive_float, positive_int
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_atomically
from mixedae_mm.utils.machine import cpu_cores
from mixedae_mm.utils.tables import markdown_table
from reproduce.fingerprints import fingerprint
from reproduce.scheduling import only_writer, train_all
from reproduce.training_run import TrainingRun

CONFIGS = ROOT / 'configs/classification/small_sets'
# What each backbone changes in them.
BACKBONES = {'vit-b': None,
             'resnet50': ROOT / 'configs/_base_/models/small_set_resnet50.py'}
BATCH_SIZE = 64  # images per step, as in the configs
# In the order of Table 2, by the names of the configs.
SETS = {
    'aircraft': 'Aircraft', 'caltech101': 'Caltech', 'cars': 'Cars', 'cifar10': 'C10',
    'cifar100': 'C100', 'dtd': 'DTD', 'flowers102': 'Flowers', 'food101': 'Food',
    'pets': 'Pets', 'sun397': 'SUN', 'voc2007': 'VOC'}
# The paper's own numbers, after 1600 epochs.
PAPER = {
    'MAE (paper)': (78.2, 91.2, 88.4, 97.0, 82.5, 75.3, 96.6, 84.7, 92.6, 65.4, 86.0),
    'MixedAE (paper)':
    (82.1, 91.5, 88.8, 97.9, 85.9, 78.7, 97.1, 87.4, 93.6, 66.2, 86.4)}


class Choice(NamedTuple):
    """One point of the sweep."""
    learning_rate: float
    weight_decay: float

    def __str__(self) -> str:
        return f'lr{self.learning_rate:g}_wd{self.weight_decay:g}'


def run_config(config: Config, choice: Choice, folder: str, validate: bool) -> Config:
    """Make the config of one run on a set's files, which evaluates once, at the end.

    With ``validate`` it is trained on the sweep's training images and evaluated on its
    validation images, instead of all training images and the test images.
    """
    config = copy.deepcopy(config)
    config.optim_wrapper.optimizer.lr = choice.learning_rate
    config.optim_wrapper.optimizer.weight_decay = choice.weight_decay
    config.train_cfg.val_interval = config.train_cfg.max_iters
    train, test = (config[f'{name}_dataloader'].dataset for name in ('train', 'val'))
    train.data_root = test.data_root = folder
    if validate:
        # Only the metric is needed, also of a choice that diverges.
        config.default_hooks.checkpoint.update(interval=-1, save_last=False)
        config.custom_hooks = [
            hook for hook in config.custom_hooks if hook.type != 'NonFiniteLossHook']
        test.split = train.split
        if 'hold_out' in config.sweep:
            for name, dataset in (('train', train), ('val', test)):
                config[f'{name}_dataloader'].dataset = dict(
                    type='KFoldDataset', dataset=dataset, fold=0, seed=0,
                    num_splits=config.sweep.hold_out, test_mode=name == 'val')
        else:
            train.split, test.split = config.sweep.train_split, config.sweep.val_split
    config.test_dataloader = config.val_dataloader
    return config


def training(name: str, config: Config, choice: Choice, folder: str, work_dir: Path,
             validate: bool, processes: int = 1) -> TrainingRun:
    """Set up one run on the set ``name``, as :func:`run_config`.

    The name of its folder has a hash of its whole setting, so runs with other weights,
    images or options have other folders.
    """
    stem = str(choice) if validate else f'test_{choice}'
    file = work_dir / name / f'{stem}.py'
    file.parent.mkdir(parents=True, exist_ok=True)
    run_config(config, choice, folder, validate).dump(file)
    steps = config.train_cfg.max_iters
    run = TrainingRun(
        f'{name} {choice} in {"validation" if validate else "test"}', file.parent,
        file, {}, Path(folder), None if validate else f'iter_{steps}.pth', steps,
        metrics=('*/*', ), processes=processes)
    return run._replace(folder=file.parent / f'{stem}-{fingerprint(run.setting())[:8]}')


def transfer(args: argparse.Namespace, threads: int, lock: int) -> str:
    """Run the protocol on several sets and return Table 2 with a row of its own.

    Raises:
        ConfigurationError: If the folder of a set is missing.
    """
    sets = {name: Config.fromfile(CONFIGS / f'{name}.py') for name in args.sets}
    folders = {name: config.data_root if args.data_root is None else os.path.join(
        args.data_root, os.path.basename(config.data_root))
        for name, config in sets.items()}
    check_folders(folders)
    backbone = BACKBONES[args.backbone]
    for config in sets.values():
        if backbone is not None:
            config.merge_from_dict(Config.fromfile(backbone).to_dict())
        config.merge_from_dict(args.cfg_options)
        config.model.backbone.init_cfg.checkpoint = args.checkpoint

    def runs(name: str, choices: Iterable[Choice], validate: bool):
        return {choice: training(name, sets[name], choice, folders[name], args.work_dir,
                                 validate, args.gpus) for choice in choices}

    def train(runs: Sequence[TrainingRun], later_steps: int = 0) -> None:
        train_all(runs, args.parallel, threads, partial(print, flush=True), [lock],
                  later_steps)

    choices = [Choice(*pair) for pair in product(args.learning_rates,
                                                 args.weight_decays)]
    validations = {name: runs(name, choices, True) for name in sets}
    train([run for of_set in validations.values() for run in of_set.values()],
          sum(config.train_cfg.max_iters for config in sets.values()))
    for of_set in validations.values():
        for run in of_set.values():
            for weights in run.folder.glob('*.pth'):  # of an interruption
                weights.unlink()
    tests: List[TrainingRun] = []
    for name, of_set in validations.items():
        best = max(of_set, key=lambda choice: the_metric(of_set[choice]))
        tests += runs(name, [best], False).values()
    train(tests)
    indices = [list(SETS).index(name) for name in sets]
    rows = {title: [numbers[i] for i in indices] for title, numbers in PAPER.items()}
    rows[title_of(args.checkpoint)] = [the_metric(run) for run in tests]
    result = table(rows, list(sets))
    write_atomically(args.work_dir / 'table.md', result + '\n')
    return result


def check_folders(folders: Dict[str, str]) -> None:
    """Refuse to start hours of work if a folder is missing."""
    missing = {n: place for n, place in folders.items() if not os.path.isdir(place)}
    if missing:
        there = ' '.join(name for name in folders if name not in missing)
        raise ConfigurationError(
            'These sets are missing: ' +
            ', '.join(f'{name} ({place})' for name, place in missing.items()) +
            (f'; run those that are there with --sets {there}.'
             if there else '; name the folder they lie in with --data-root.'))


def title_of(checkpoint: str) -> str:
    """Return the name of a row: a URL as a whole, because many end in the same name."""
    return checkpoint if '://' in checkpoint else Path(checkpoint).stem


def the_metric(run: TrainingRun) -> float:
    """The one metric of a finished run, in percent.

    Raises:
        ConfigurationError: If the evaluator logged several.
    """
    measured = run.measured()
    if len(measured) != 1:
        raise ConfigurationError(f'The log in {run.folder} should have one metric, but '
                                 f'has {sorted(measured)}.')
    return next(iter(measured.values()))


def table(rows: Dict[str, Sequence[float]], names: Sequence[str]) -> str:
    """Return Table 2 in Markdown: per row a value in percent for each set."""
    return markdown_table(
        ['Method', *(SETS[name] for name in names), 'Avg.'],
        [[title, *(f'{value:.1f}' for value in [*values, mean(values)])]
         for title, values in rows.items()], numbers=True)


def parse_arguments(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='pre-trained weights')
    parser.add_argument('--backbone', choices=list(BACKBONES), default='vit-b',
                        help='what the weights are of (default: %(default)s)')
    parser.add_argument('--sets', nargs='+', choices=list(SETS), default=list(SETS),
                        metavar='SET', help=f'some of {" ".join(SETS)} (default: all)')
    parser.add_argument('--data-root', type=os.path.expanduser, help='the folder that '
                        'holds all sets under their usual names (default: data, as the '
                        'configs say)')
    parser.add_argument('--work-dir', type=path, default=Path('work_dirs/eleven'))
    parser.add_argument('--learning-rates', nargs='+', type=positive_float,
                        metavar='LR', default=(1e-4, 1e-3, 1e-2, 1e-1))
    parser.add_argument('--weight-decays', nargs='+', type=float, metavar='WD',
                        default=(0., 1e-4))
    parser.add_argument('--gpus', type=positive_int, default=1,
                        help='processes per run; the batch of 64 is divided among '
                        'them')
    parser.add_argument('--parallel', type=positive_int, default=1,
                        help='runs at a time')
    add_config_options(parser)  # changes to every config
    return parser.parse_args(argv)


def main(args: argparse.Namespace) -> None:
    os.environ.pop('DATA_ROOT', None)  # of one set; here there are eleven
    threads = max(1, cpu_cores() // (args.parallel * args.gpus))
    if args.gpus > 1 and 'train_dataloader.batch_size' not in args.cfg_options:
        if BATCH_SIZE % args.gpus:
            raise ConfigurationError(
                f'--gpus is {args.gpus}, but must divide the batch of {BATCH_SIZE}; or '
                'give --cfg-options train_dataloader.batch_size=..., images per GPU.')
        args.cfg_options['train_dataloader.batch_size'] = BATCH_SIZE // args.gpus
    with only_writer(args.work_dir) as lock:
        print(transfer(args, threads, lock))


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
