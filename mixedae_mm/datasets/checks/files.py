"""A data set must have samples, and the files of its samples must exist."""
import logging
import os
from typing import Sequence, Sized

from mmengine.logging import print_log
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError
from ..decode import EXTENSIONS
from ..folder_index import scan_folder
from ..other_files import describe_files
from .walking import is_local, leaves, sample_infos

# Files of a sample, by the names that the toolboxes' datasets give them.
FILES = ('img_path', 'seg_map_path')


def check_not_empty(dataset: Sized, name: str) -> None:
    """Refuse a data set without samples."""
    if len(dataset) == 0:
        raise ConfigurationError(
            f'The {type(dataset).__name__} of {name} has no samples; is its '
            'data_root right?')


def check_files(dataset: Dataset, name: str) -> None:
    """Refuse a data set of which a few samples have files that do not exist."""
    for part in leaves(dataset):
        for sample in sample_infos(part):
            for key in FILES:
                path = sample.get(key)
                if isinstance(path, (str, os.PathLike)) and is_local(
                        path) and not os.path.isfile(path):
                    raise ConfigurationError(
                        f'The {type(part).__name__} of {name} names {path}, which '
                        'does not exist.')


def check_suffix(folder: str, suffixes: Sequence[str], name: str, option: str,
                 ignore_case: bool = False) -> None:
    """Name the images that a data set leaves out because of how their names end.

    Args:
        folder (str): Searched at any depth.
        suffixes (Sequence[str]): Endings that the data set takes.
        name (str): What the config calls its loader.
        option (str): The data set's argument that says the endings.
        ignore_case (bool): Whether the data set does.

    Raises:
        ConfigurationError: If the folder has no file that is taken.
    """
    if not is_local(folder) or not os.path.isdir(folder):
        return
    images, rest = scan_folder(folder, EXTENSIONS)
    suffixes = tuple(suffixes)
    if not images and not any(path.endswith(suffixes) for path in rest):
        found = f'; it has {describe_files(rest)}' if rest else ''
        raise ConfigurationError(
            f'{name}: {folder} has no file that ends in {", ".join(suffixes)}, which '
            f'{option} takes{found}.')
    others = [path for path in images if not (
        path.lower() if ignore_case else path).endswith(suffixes)]
    if not others:
        return
    where = f'{name}: {folder} has {describe_files(others, keep_case=True)}'
    takes = f'{option} takes only what ends in {", ".join(suffixes)}'
    if len(others) == len(images):
        raise ConfigurationError(f'{where}, but {takes}: not one image is left.')
    print_log(f'{where}, which are left out: {takes}.', logger='current',
              level=logging.WARNING)
