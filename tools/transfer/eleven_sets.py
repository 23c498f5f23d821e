"""Table 2: fine-tuning on eleven small classification sets.

After Kornblith et al. (2019) and Ericsson et al. (2021): learning rate and
weight decay are chosen on validation images (the set's own, or a fifth of
the training images), the model is then trained on all training images with
them, and tested once.
"""
import copy
import itertools
import json
import os
import subprocess
import time
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config

from mixedae_mm.analysis.run_log import read_run
from mixedae_mm.utils.errors import ConfigurationError

# In the order of Table 2, by the names of configs/classification/small_sets.
SETS = {
    'aircraft': 'Aircraft',
    'caltech101': 'Caltech',
    'cars': 'Cars',
    'cifar10': 'C10',
    'cifar100': 'C100',
    'dtd': 'DTD',
    'flowers102': 'Flowers',
    'food101': 'Food',
    'pets': 'Pets',
    'sun397': 'SUN',
    'voc2007': 'VOC'
}
# The paper's own numbers, after 1600 epochs.
PAPER = {
    'MAE (paper)': (78.2, 91.2, 88.4, 97.0, 82.5, 75.3, 96.6, 84.7, 92.6,
                    65.4, 86.0),
    'MixedAE (paper)': (82.1, 91.5, 88.8, 97.9, 85.9, 78.7, 97.1, 87.4, 93.6,
                        66.2, 86.4),
}
LEARNING_RATES = (1e-4, 1e-3, 1e-2, 1e-1)
WEIGHT_DECAYS = (0., 1e-4)


class Choice(NamedTuple):
    """One point of the sweep."""
    learning_rate: float
    weight_decay: float

    def __str__(self) -> str:
        return f'lr{self.learning_rate:g}_wd{self.weight_decay:g}'


def data_folder(name: str, configs: Path, root: Optional[str]) -> str:
    """Where a set lies: its usual folder name, below ``root`` if given."""
    default = Config.fromfile(configs / f'{name}.py').data_root
    return default if root is None else os.path.join(
        root, os.path.basename(default))


def check_folders(folders: Dict[str, str]) -> None:
    """Refuse to start hours of work that a missing folder will stop."""
    missing = {n: path for n, path in folders.items() if not os.path.isdir(path)}
    if missing:
        there = ' '.join(name for name in folders if name not in missing)
        raise ConfigurationError(
            'These sets are missing: ' +
            ', '.join(f'{name} ({path})' for name, path in missing.items()) +
            (f'; run those that are there with --sets {there}.'
             if there else '; name the folder they lie in with --data-root.'))


def run_config(config: Config, choice: Choice, folder: str,
               validate: bool) -> Config:
    """The config of one run.

    Args:
        config (Config): Of the set.
        choice (Choice): Learning rate and weight decay.
        folder (str): The set's files.
        validate (bool): Train on the sweep's training images and evaluate on
            its validation images, instead of all training images and the
            test images.

    Returns:
        Config: For ``tools/train.py``. It evaluates once, after training.
    """
    config = copy.deepcopy(config)
    config.optim_wrapper.optimizer.lr = choice.learning_rate
    config.optim_wrapper.optimizer.weight_decay = choice.weight_decay
    config.train_cfg.val_interval = config.train_cfg.max_iters
    train, test = (config[f'{name}_dataloader'].dataset
                   for name in ('train', 'val'))
    for dataset in (train, test):
        dataset.data_root = folder
    if validate:
        # Only the number is wanted: of a choice that diverges, too.
        config.default_hooks.checkpoint.update(interval=-1, save_last=False)
        config.custom_hooks = [
            hook for hook in config.custom_hooks
            if hook.type != 'NonFiniteLossHook'
        ]
        sweep = config.sweep
        test.split = train.split
        if 'hold_out' in sweep:
            for name, dataset in (('train', train), ('val', test)):
                config[f'{name}_dataloader'].dataset = dict(
                    type='KFoldDataset',
                    dataset=dataset,
                    num_splits=sweep.hold_out,
                    fold=0,
                    seed=0,
                    test_mode=name == 'val')
        else:
            train.split, test.split = sweep.train_split, sweep.val_split
    config.test_dataloader = config.val_dataloader
    return config


def run(config: Config, folder: Path, train: Callable[[Path], int]) -> float:
    """Train once and return the metric in percent.

    A run that finished before is not repeated.

    Args:
        config (Config): From :func:`run_config`.
        folder (Path): For its log and result.
        train (callable): Trains with the config file it is given and returns
            the exit status.

    Returns:
        float: The one metric of the config's evaluator.
    """
    result = folder / 'result.json'
    if result.is_file():
        return json.loads(result.read_text())['value']
    folder.mkdir(parents=True, exist_ok=True)
    config.work_dir = str(folder)
    config.dump(folder / 'config.py')
    status = train(folder / 'config.py')
    if status != 0:
        raise ConfigurationError(
            f'The run in {folder} ended with status {status}; its log is '
            'there. Finished runs are kept: repeat the command to go on.')
    metric, value = _last_metric(folder)
    partial = result.with_suffix('.part')
    partial.write_text(json.dumps(dict(metric=metric, value=value)))
    os.replace(partial, result)
    return value


def sweep(name: str, config: Config, folder: str, work_dir: Path,
          choices: Sequence[Choice], train: Callable[[Path], int],
          report: Callable[[str], None]) -> float:
    """Choose on validation images, then train on all and test.

    Args:
        name (str): Of the set.
        config (Config): Of the set.
        folder (str): The set's files.
        work_dir (Path): For all runs of the set.
        choices (Sequence[Choice]): What to choose from.
        train (callable): As in :func:`run`.
        report (callable): Is told about each finished run.

    Returns:
        float: The metric on the test images, in percent.
    """
    validated = {}
    for choice in choices:
        validated[choice] = run(
            run_config(config, choice, folder, validate=True),
            work_dir / str(choice), train)
        report(f'{name} {choice}: {validated[choice]:.1f} in validation')
    best = max(choices, key=validated.get)
    tested = run(
        run_config(config, best, folder, validate=False),
        work_dir / f'test_{best}', train)
    report(f'{name} {best}: {tested:.1f} in test')
    return tested


def table(rows: Dict[str, Sequence[Optional[float]]],
          names: Sequence[str]) -> str:
    """Table 2 in Markdown.

    Args:
        rows (dict[str, Sequence]): A value for each of ``names``, in percent.
        names (Sequence[str]): Sets, keys of :data:`SETS`.
    """
    lines = [['Method', *(SETS[name] for name in names), 'Avg.']]
    lines.append(['---'] + ['---:'] * (len(names) + 1))
    for title, values in rows.items():
        mean = sum(values) / len(values)
        lines.append([title, *(f'{value:.1f}' for value in [*values, mean])])
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def transfer(names: Sequence[str], configs: Path, work_dir: Path,
             data_root: Optional[str], checkpoint: Optional[str],
             choices: Sequence[Choice], options: dict,
             train: Callable[[Path], int]) -> str:
    """Run the protocol on several sets and return Table 2's row.

    Args:
        names (Sequence[str]): Sets, keys of :data:`SETS`.
        configs (Path): ``configs/classification/small_sets``.
        work_dir (Path): For everything that is written.
        data_root (str, optional): The folder that all sets lie in. Defaults
            to where each config looks.
        checkpoint (str, optional): The pre-trained weights; the configs'
            own by default.
        choices (Sequence[Choice]): What the sweep chooses from.
        options (dict): Changes to every config, as ``--cfg-options``.
        train (callable): As in :func:`run`.

    Returns:
        str: The table, with the paper's rows beside.
    """
    folders = {name: data_folder(name, configs, data_root) for name in names}
    check_folders(folders)
    progress = _Progress(len(names) * (len(choices) + 1))
    values: List[float] = []
    for name in names:
        config = Config.fromfile(configs / f'{name}.py')
        config.merge_from_dict(options)
        if checkpoint is not None:
            config.model.backbone.init_cfg.checkpoint = checkpoint
        values.append(
            sweep(name, config, folders[name], work_dir / name, choices, train,
                  progress))
    indices = [list(SETS).index(name) for name in names]
    rows = {
        title: [numbers[i] for i in indices]
        for title, numbers in PAPER.items()
    }
    rows[Path(checkpoint).stem if checkpoint else 'this run'] = values
    result = table(rows, names)
    (work_dir / 'table.md').write_text(result + '\n')
    return result


def grid(learning_rates: Sequence[float],
         weight_decays: Sequence[float]) -> List[Choice]:
    """All pairs."""
    return [
        Choice(*pair)
        for pair in itertools.product(learning_rates, weight_decays)
    ]


def train_with(command: Sequence[str],
               after: Sequence[str] = ()) -> Callable[[Path], int]:
    """Train in a process of its own, its output in ``train.log``."""

    def train(config: Path) -> int:
        with open(config.with_name('train.log'), 'w') as log:
            return subprocess.run(
                [*command, str(config), *after], stdout=log,
                stderr=subprocess.STDOUT).returncode

    return train


class _Progress:
    """Prints finished runs with the time left."""

    def __init__(self, total: int) -> None:
        self.done, self.total, self.start = 0, total, time.time()

    def __call__(self, message: str) -> None:
        self.done += 1
        elapsed = time.time() - self.start
        left = elapsed / self.done * (self.total - self.done)
        print(
            f'[{self.done}/{self.total}] {message} '
            f'(about {left / 60:.0f} min left)',
            flush=True)


def _last_metric(folder: Path) -> Tuple[str, float]:
    metrics = {k: v for k, v in read_run(folder).items() if '/' in k}
    if len(metrics) != 1:
        raise ConfigurationError(
            f'The log in {folder} should have one metric, but has '
            f'{sorted(metrics)}.')
    (name, (_, values)), = metrics.items()
    return name, values[-1]
