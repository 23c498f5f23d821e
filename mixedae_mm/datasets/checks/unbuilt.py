"""Why a data set could not be built."""
from typing import Iterator

from mmengine.registry import DATASETS

from .coco import check_coco
from .files import check_suffix


def explain_failure(dataset: dict, name: str) -> None:
    """Find what is wrong with the files of a data set that failed to be built.

    The toolboxes fail with errors such as "need at least one array to
    concatenate" or a KeyError.

    Args:
        dataset (dict): Its config, in any wrappers.
        name (str): What the config calls its loader.

    Raises:
        ConfigurationError: If the reason is found; returns if not.
    """
    for config in _leaf_configs(dataset):
        try:
            part = DATASETS.build(dict(config, lazy_init=True))
        except Exception:  # its arguments are wrong, not its files
            return
        check_coco(part, name)
        prefix = getattr(part, 'data_prefix', None) or {}
        folder = prefix.get('img_path') if isinstance(prefix, dict) else None
        if getattr(part, 'ann_file', '') or not folder:
            continue
        if hasattr(part, 'img_suffix'):  # mmseg
            check_suffix(folder, [part.img_suffix], name, 'img_suffix')
        elif hasattr(part, 'extensions'):  # mmpretrain
            check_suffix(folder, part.extensions, name, 'extensions',
                         ignore_case=True)


def _leaf_configs(dataset: dict) -> Iterator[dict]:
    parts = dataset.get('datasets') or [dataset.get('dataset')]
    for part in parts:
        if isinstance(part, dict):
            yield from _leaf_configs(part)
        elif part is None and 'type' in dataset:
            yield dataset
