"""Data sets without samples, which the toolboxes fail to build or train on."""
import os
from pathlib import Path
from typing import Sequence, Sized, cast

from mmengine.registry import DATASETS
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError
from ...utils.messages import warn
from ..decode import EXTENSIONS
from ..folder_index import scan_folder
from ..other_files import describe_files
from .coco import check_coco
from .walking import ToolboxDataset, is_local, leaf_configs, leaves, place_of


def check_not_empty(dataset: Sized, name: str) -> None:
    """Refuse a data set without samples."""
    if len(dataset) == 0:
        place = place_of(next(leaves(cast(Dataset, dataset))))
        raise ConfigurationError(
            f'The {type(dataset).__name__} of {name} has no samples: {place} must '
            'name or hold at least one; is data_root right?')


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
    takes = f'{option} takes only what ends in {", ".join(suffixes)}'
    if not images and not any(path.endswith(suffixes) for path in rest):
        raise ConfigurationError(
            f'{name}: {folder} has no file that ends in {", ".join(suffixes)}, but has '
            f'{describe_files(rest) or "no file"}; {takes}.')
    others = [path for path in images if not (
        path.lower() if ignore_case else path).endswith(suffixes)]
    where = f'{name}: {folder} has {describe_files(others, keep_case=True)}'
    if others and len(others) == len(images):
        raise ConfigurationError(f'{where}, but {takes}: not one image is left.')
    if others:
        warn(f'{where}, which are left out: {takes}.')


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
    for config in leaf_configs(dataset):
        try:
            part = DATASETS.build(dict(config, lazy_init=True))
        except Exception:  # its arguments are wrong, not its files
            return
        check_coco(part, name)
        folder = _listed_folder(part)
        if not folder:
            _check_listed(part, name)
            continue
        _check_endings(part, folder, name)
        if not hasattr(part, 'img_suffix') and hasattr(part, 'extensions'):
            if getattr(part, 'with_label', False) and not any(
                    one.is_dir() for one in Path(folder).iterdir()):
                raise ConfigurationError(
                    f'{name}: {folder} has images, but must have a folder of images '
                    'for each class; with_label=False takes images without classes.')


def check_left_out(dataset: Dataset, name: str) -> None:
    """Warn of images that a data set leaves out because of how their names end."""
    for part in leaves(dataset):
        folder = _listed_folder(part)
        if folder and not hasattr(part, 'max_bad_share'):  # that one says so itself
            _check_endings(part, folder, name)


def _listed_folder(part: ToolboxDataset) -> str:
    """The folder whose files are the samples, '' if a file names them."""
    prefix = getattr(part, 'data_prefix', None) or {}
    folder = prefix.get('img_path') if isinstance(prefix, dict) else None
    return '' if getattr(part, 'ann_file', '') or not folder else folder


def _check_endings(part: ToolboxDataset, folder: str, name: str) -> None:
    if hasattr(part, 'img_suffix'):  # mmseg
        check_suffix(folder, [part.img_suffix], name, 'img_suffix')
    elif hasattr(part, 'extensions'):  # mmpretrain
        check_suffix(folder, part.extensions, name, 'extensions', ignore_case=True)


def _check_listed(part: ToolboxDataset, name: str) -> None:
    """Refuse an annotation file that names no sample."""
    part.serialize_data = False  # which fails where there is nothing
    try:
        part.full_init()
    except Exception:  # the error that there was before says more
        return
    check_not_empty(part, name)
