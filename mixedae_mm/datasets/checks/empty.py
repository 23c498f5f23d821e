"""Data sets without samples, which the toolboxes fail to build or train on."""
import os
from pathlib import Path
from typing import Any, List, Sequence, Sized, cast

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
    """Warn of images that a data set leaves out because of how their names end.

    ``option`` is the data set's argument that says which endings it takes. A folder
    without a file that is taken, at any depth, is refused.
    """
    if not is_local(folder) or not os.path.isdir(folder):
        return
    images, rest = scan_folder(folder, EXTENSIONS)
    suffixes = tuple(suffixes)

    def left_out(paths: List[str]) -> List[str]:
        return [path for path in paths if not (
            path.lower() if ignore_case else path).endswith(suffixes)]

    takes = f'{option} takes only what ends in {", ".join(suffixes)}'
    others = left_out(images)
    is_empty = len(others) == len(images) and len(left_out(rest)) == len(rest)
    if is_empty and not images:
        raise ConfigurationError(
            f'{name}: {folder} has no file that ends in {", ".join(suffixes)}, but has '
            f'{describe_files(rest) or "no file"}; {takes}.')
    where = f'{name}: {folder} has {describe_files(others, keep_case=True)}'
    if is_empty:
        raise ConfigurationError(f'{where}, but {takes}: not one image is left.')
    if others:
        warn(f'{where}, which are left out: {takes}.')


def check_left_out(dataset: Dataset, name: str) -> None:
    """Warn of images that a data set leaves out because of how their names end."""
    for part in leaves(dataset):
        if not hasattr(part, 'max_bad_share'):  # that one says so itself
            _check_endings(part, name)


def explain_failure(dataset: Any, name: str) -> None:
    """Find what is wrong with the files of a data set that failed to be built.

    The toolboxes fail with errors such as "need at least one array to
    concatenate" or a KeyError. ``dataset`` is the config; where the reason is not
    found, or it is something else, nothing is done.
    """
    for config in leaf_configs(dataset):
        try:
            _explain(DATASETS.build(dict(config, lazy_init=True)), name)
        except ConfigurationError:
            raise
        except Exception:  # its arguments are wrong: the error that there was says more
            continue


def _explain(part: ToolboxDataset, name: str) -> None:
    """Refuse a data set, which lists its samples here, for what is wrong with files."""
    check_coco(part, name)
    _check_endings(part, name)
    folder = _listed_folder(part)
    if not folder:
        part.serialize_data = False  # which fails where there is nothing
        part.full_init()
        check_not_empty(part, name)
    elif (not hasattr(part, 'img_suffix') and getattr(part, 'with_label', False)
          and not any(one.is_dir() for one in Path(folder).iterdir())):
        raise ConfigurationError(
            f'{name}: {folder} has images, but must have a folder of images '
            'for each class; with_label=False takes images without classes.')


def _listed_folder(part: ToolboxDataset) -> str:
    """The folder whose files are the samples, '' if a file names them."""
    prefix = getattr(part, 'data_prefix', None) or {}
    folder = prefix.get('img_path') if isinstance(prefix, dict) else None
    return '' if getattr(part, 'ann_file', '') or not folder else folder


def _check_endings(part: ToolboxDataset, name: str) -> None:
    folder = _listed_folder(part)
    if folder and hasattr(part, 'img_suffix'):  # mmseg
        check_suffix(folder, [part.img_suffix], name, 'img_suffix')
    elif folder and hasattr(part, 'extensions'):  # mmpretrain
        check_suffix(folder, part.extensions, name, 'extensions', ignore_case=True)
