"""Refuse values of a config that nothing which is built from it would refuse."""
from math import inf
from typing import Any

from mmengine.config import Config

from ..utils.checks import check_count, check_number
from ..utils.errors import ConfigurationError
from .tree import resolve

DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# Types that the commands or mmengine rely on: in words, with the keys.
TYPES: Any = {
    dict: ('a dict', (
        'model', *DATALOADERS, 'train_cfg', 'val_cfg', 'test_cfg', 'optim_wrapper',
        'default_hooks', 'env_cfg', 'randomness', 'auto_scale_lr',
        'data_preprocessor', 'visualizer', 'log_processor')),
    str: ('text', ('work_dir', 'default_scope', 'experiment_name', 'load_from')),
    (list, tuple): ('a list of dicts', ('custom_hooks', )),
    # 'no', 'auto' or 'false' would count as True.
    bool: ('True or False', (
        'resume', 'find_unused_parameters', 'auto_scale_lr.enable',
        'env_cfg.cudnn_benchmark', 'randomness.deterministic',
        'randomness.diff_rank_seed', *(
            f'{loader}.{key}' for loader in DATALOADERS
            for key in ('persistent_workers', 'pin_memory', 'drop_last')))),
}
RATES = ('optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.weight_decay')
COUNTS = ('train_cfg.max_epochs', 'train_cfg.max_iters', 'train_cfg.val_interval',
          'optim_wrapper.accumulative_counts')


def check_values(cfg: Config) -> None:
    """Refuse values of other types, rates that are not finite, and runs of no step.

    Others are refused by what is built from them, see :mod:`.boundary`.

    Raises:
        ConfigurationError: Naming the key, the value and what is allowed.
    """
    for kind, (allowed, paths) in TYPES.items():
        for path in paths:
            value = resolve(cfg, path.split('.'))
            if value is not None and not isinstance(value, kind):
                raise ConfigurationError(f'{path} is {value!r}, but must be {allowed}.')
    for loader in DATALOADERS:
        if cfg.get(loader) is not None and cfg[loader].get('dataset') is None:
            raise ConfigurationError(f'{loader} has no dataset, but needs one.')
        for key, least in (('batch_size', 1), ('num_workers', 0)):
            if key in (cfg.get(loader) or ()):
                check_count(f'{loader}.{key}', cfg[loader][key], least)
    for path in RATES:
        value = resolve(cfg, path.split('.'))
        if value is not None:  # which some optimizers take
            check_number(path, value, lambda number: 0 <= number < inf,
                         'be a finite number of at least 0')
    for path in COUNTS:
        value = resolve(cfg, path.split('.'))
        if value is not None:  # 57300.0, a quotient, is an integer for mmengine
            check_number(path, value, lambda number: 1 <= number < inf
                         and number == int(number), 'be an integer of at least 1')
    batch = resolve(cfg, ['auto_scale_lr', 'base_batch_size'])
    if batch is not None:
        check_number('auto_scale_lr.base_batch_size', batch,
                     lambda number: 0 < number < inf, 'be a number above 0')
