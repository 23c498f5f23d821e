"""Refuse data paths that do not exist, before anything is built."""
import os
from typing import Any, Iterator, Sequence

from mmengine.config import Config

from ..utils.errors import ConfigurationError

# Data sets that fetch themselves when they are missing.
SELF_FETCHING = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')


def check_data_paths(cfg: Config, loaders: Sequence[str]) -> None:
    """Refuse a config whose data folders or annotation files are missing.

    Args:
        cfg (Config): Of any of the three toolboxes.
        loaders (Sequence[str]): Which will be used, such as
            ``'train_dataloader'``.

    Raises:
        ConfigurationError: Naming the first path that does not exist.
    """
    for name in loaders:
        loader = cfg.get(name)
        for path in _paths((loader or {}).get('dataset') or {}):
            if '://' not in path and not os.path.exists(
                    os.path.expanduser(path)):
                raise ConfigurationError(
                    f'{name} needs {path}, which does not exist; the '
                    'environment variable DATA_ROOT, or data_root in the '
                    'config, says where the data are.')


def expand_home(node: Any) -> None:
    """Replace, in place, ``~`` and a leading ``~/`` of every path in a config.

    A shell does so only outside quotes, and data sets do not.
    """
    for key, value in (list(enumerate(node)) if isinstance(node, list) else
                       list(node.items()) if isinstance(node, (dict, Config)) else ()):
        if isinstance(value, str) and (value == '~' or value.startswith('~/')):
            node[key] = os.path.expanduser(value)
        else:
            expand_home(value)


def _paths(dataset: dict) -> Iterator[str]:
    """Folders and files of a dataset config, outermost first.

    mmengine's rule: what is not absolute lies below ``data_root``.
    """
    if not isinstance(dataset, dict):
        return
    for inner in ('dataset', 'datasets'):  # wrappers of one or several
        nested = dataset.get(inner) or ()
        for part in [nested] if isinstance(nested, dict) else nested:
            yield from _paths(part)
    kind = str(dataset.get('type')).rpartition('.')[2]
    root = dataset.get('data_root') or ''
    if kind in SELF_FETCHING and dataset.get('download', True):
        return
    prefix = dataset.get('data_prefix') or ()
    parts = prefix.values() if isinstance(prefix, dict) else [prefix]
    for part in [root, dataset.get('ann_file'), *parts]:
        if isinstance(part, str) and part:
            yield part if part == root else os.path.join(root, part)
