"""Table 2: fine-tuning on eleven small classification sets.

The protocol is that of Kornblith et al. (2019) and Ericsson et al. (2021):
learning rate and weight decay are chosen on validation images (the set's own, or a
fifth of the training images); then the model is trained with them on all training
images, and tested once.
"""
import copy
import itertools
import os
from pathlib import Path
from statistics import mean
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from mmengine.config import Config

from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_atomically
from mixedae_mm.utils.tables import markdown_table
from reproduce.fingerprints import fingerprint
from reproduce.training_run import TrainingRun

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
    """Return the folder of a set: its usual name, below ``root`` if given."""
    default = Config.fromfile(configs / f'{name}.py').data_root
    return default if root is None else os.path.join(
        root, os.path.basename(default))


def check_folders(folders: Dict[str, str]) -> None:
    """Refuse to start hours of work if a folder is missing."""
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
    # So that the log tells that it is the last step's.
    config.merge_from_dict({'default_hooks.logger.log_metric_by_epoch': False})
    train, test = (config[f'{name}_dataloader'].dataset
                   for name in ('train', 'val'))
    for dataset in (train, test):
        dataset.data_root = folder
    if validate:
        # Only the metric is needed, also of a choice that diverges.
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


def training(name: str, config: Config, choice: Choice, folder: str,
             work_dir: Path, validate: bool, processes: int = 1) -> TrainingRun:
    """Set up one run; the name of its folder has a hash of its whole setting.

    So runs with other weights, images or options have other folders.

    Args:
        name (str): Of the set.
        config (Config): Of the set, with the weights to start from.
        choice (Choice): Learning rate and weight decay.
        folder (str): The set's files.
        work_dir (Path): Work folder of all sets.
        validate (bool): As in :func:`run_config`.
        processes (int): Number of processes.
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


def transfer(names: Sequence[str], configs: Path, work_dir: Path,
             data_root: Optional[str], checkpoint: Optional[str],
             choices: Sequence[Choice], options: dict,
             train: Callable[[Sequence[TrainingRun], int], None],
             processes: int = 1) -> str:
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
        train (callable): Does the runs that are not finished; its second argument
            is the number of steps that will follow.
        processes (int): Number of processes of each training.

    Returns:
        str: The table, with the paper's rows beside.
    """
    folders = {name: data_folder(name, configs, data_root) for name in names}
    check_folders(folders)
    sets = {}
    for name in names:
        sets[name] = Config.fromfile(configs / f'{name}.py')
        sets[name].merge_from_dict(options)
        if checkpoint is not None:
            sets[name].model.backbone.init_cfg.checkpoint = checkpoint

    def runs(name: str, choices: Sequence[Choice], validate: bool):
        return {choice: training(name, sets[name], choice, folders[name], work_dir,
                                 validate, processes) for choice in choices}

    validations = {name: runs(name, choices, True) for name in names}
    train([run for of_set in validations.values() for run in of_set.values()],
          sum(config.train_cfg.max_iters for config in sets.values()))
    for of_set in validations.values():
        for run in of_set.values():
            for weights in run.folder.glob('*.pth'):  # of an interruption
                weights.unlink()
    tests = []
    for name, of_set in validations.items():
        best = max(choices, key=lambda choice: the_metric(of_set[choice]))
        tests += runs(name, [best], False).values()
    train(tests, 0)
    indices = [list(SETS).index(name) for name in names]
    rows = {title: [numbers[i] for i in indices] for title, numbers in PAPER.items()}
    rows[title_of(checkpoint)] = [the_metric(run) for run in tests]
    result = table(rows, names)
    write_atomically(work_dir / 'table.md', result + '\n')
    return result


def title_of(checkpoint: Optional[str]) -> str:
    """Return the name of a row: a URL as a whole, because many end in the same name."""
    if checkpoint is None:
        return 'this run'
    return checkpoint if '://' in checkpoint else Path(checkpoint).stem


def the_metric(run: TrainingRun) -> float:
    """The one metric of a finished run, in percent.

    Raises:
        ConfigurationError: If the evaluator logged several.
    """
    measured = run.measured()
    if len(measured) != 1:
        raise ConfigurationError(
            f'The log in {run.folder} should have one metric, but has '
            f'{sorted(measured)}.')
    return next(iter(measured.values()))


def table(rows: Dict[str, Sequence[Optional[float]]],
          names: Sequence[str]) -> str:
    """Return Table 2 in Markdown.

    Args:
        rows (dict[str, Sequence]): A value for each of ``names``, in percent.
        names (Sequence[str]): Sets, keys of :data:`SETS`.
    """
    return markdown_table(
        ['Method', *(SETS[name] for name in names), 'Avg.'],
        [[title, *(f'{value:.1f}' for value in [*values, mean(values)])]
         for title, values in rows.items()], numbers=True)


def grid(learning_rates: Sequence[float],
         weight_decays: Sequence[float]) -> List[Choice]:
    """Return all pairs of a learning rate and a weight decay."""
    return [
        Choice(*pair)
        for pair in itertools.product(learning_rates, weight_decays)
    ]
