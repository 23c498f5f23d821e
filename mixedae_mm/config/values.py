"""Refuse values of a config that would fail later or with a less clear message."""
from math import inf
from typing import Callable

from mmengine.config import Config

from ..utils.checks import check_count, check_flag, check_number
from ..utils.errors import ConfigurationError
from .tree import resolve

DATALOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
DICTIONARIES = ('model', *DATALOADERS, 'train_cfg', 'val_cfg', 'test_cfg',
                'optim_wrapper', 'default_hooks', 'env_cfg', 'randomness',
                'auto_scale_lr', 'data_preprocessor', 'visualizer', 'log_processor')
TEXTS = ('work_dir', 'default_scope', 'experiment_name', 'load_from')
COUNTS = {  # key -> least value
    'train_cfg.max_epochs': 1, 'train_cfg.max_iters': 1, 'train_cfg.val_interval': 1,
    'optim_wrapper.accumulative_counts': 1, 'default_hooks.logger.interval': 1,
}
FLAGS = ('resume', 'find_unused_parameters', 'auto_scale_lr.enable',
         'env_cfg.cudnn_benchmark', 'randomness.deterministic',
         'randomness.diff_rank_seed')
NUMBERS = ('optim_wrapper.optimizer.lr', 'optim_wrapper.optimizer.weight_decay')


def check_values(cfg: Config) -> None:
    """Refuse what is not a dictionary or not a number where one is needed.

    These are the values that people change most. Others are refused by what is
    built from them, see :mod:`.boundary`.

    Raises:
        ConfigurationError: Naming the key, the value and what is allowed.
    """
    for names, kind, allowed in ((DICTIONARIES, dict, 'a dict'), (TEXTS, str, 'text'),
                                 (['custom_hooks'], (list, tuple), 'a list of dicts')):
        for name in names:
            if cfg.get(name) is not None and not isinstance(cfg[name], kind):
                raise ConfigurationError(
                    f'{name} is {cfg[name]!r}, but must be {allowed}.')
    for name in DATALOADERS:
        loader = cfg.get(name)
        if loader is not None and loader.get('dataset') is None:
            raise ConfigurationError(f'{name} has no dataset, but needs one.')
        for key in ('persistent_workers', 'pin_memory', 'drop_last'):
            check_flag(f'{name}.{key}', (loader or {}).get(key, False))
        for key, least in (('batch_size', 1), ('num_workers', 0)):
            if key in (loader or ()):
                check_count(f'{name}.{key}', loader[key], least)
    for path in FLAGS:  # 'no', 'auto' or 'false' would count as True
        value = resolve(cfg, path.split('.'))
        if value is not None:
            check_flag(path, value)
    for path, least in COUNTS.items():
        value = resolve(cfg, path.split('.'))
        if value is not None:  # 57300.0, a quotient, is an integer for mmengine
            check_number(path, value, _is_integer_from(least),
                         f'be an integer of at least {least}')
    for path in NUMBERS:
        value = resolve(cfg, path.split('.'))
        if value is not None:
            check_number(path, value, lambda number: 0 <= number < inf,
                         'be a number of at least 0')
    batch = resolve(cfg, ['auto_scale_lr', 'base_batch_size'])
    if batch is not None:
        check_number('auto_scale_lr.base_batch_size', batch,
                     lambda number: 0 < number < inf, 'be a number above 0')


def _is_integer_from(least: int) -> Callable[[float], bool]:
    return lambda number: least <= number < inf and number == int(number)
