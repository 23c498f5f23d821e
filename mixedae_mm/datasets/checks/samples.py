"""Files, sizes and labels of a few samples, loaded as the pipeline loads them."""
import os
from functools import partial
from typing import Callable, List, Mapping, Optional, Set

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import nn
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError
from ...utils.messages import reason_of, warn
from .channels import check_channels
from .walking import ToolboxDataset, is_local, leaves, place_of, sample_infos

# Files of a sample, by the names that the toolboxes' data sets give them.
FILES = ('img_path', 'seg_map_path')


def check_samples(dataset: Dataset, name: str,
                  heads: Optional[Mapping[str, int]] = None,
                  ignore_index: int = 255,
                  model: Optional[nn.Module] = None) -> None:
    """Load a few samples and refuse what cannot work.

    That is a file that is missing or not an image, an image of other channels than
    the model takes, a mask or an annotation that was made for another size, and a mask
    with a label that a head does not predict. The other masks of mmseg's data sets are
    checked when they are loaded.

    Args:
        dataset (Dataset): In any wrappers.
        name (str): What the config calls it.
        heads (Mapping[str, int], optional): Number of classes of each head.
        ignore_index (int): The label that losses ignore.
        model (nn.Module, optional): What is trained.
    """
    warned = False
    for part in leaves(dataset):
        # Those of a test may load the annotations after resizing the image.
        steps = [step for step in getattr(
            getattr(part, 'pipeline', None), 'transforms', ())
            if type(step).__name__.startswith('Load')]
        if hasattr(part, 'max_bad_share') and not part.test_mode:
            continue  # it replaces images that cannot be read
        if not all(map(_reads_from_disk, steps)):
            continue  # workers must not inherit an open data base
        labels: Set[int] = set()
        for info in sample_infos(part):
            said = {f'{place_of(part)} says': (info.get('height'), info.get('width'))}
            sample = _load(info, steps, name)
            if model is not None:
                warned |= check_channels(sample, model, name, not warned,
                                         partial(_packed, part, info))
            # Of mmseg: those of mmdet hold other numbers.
            if 'gt_seg_map' in sample and hasattr(part, 'reduce_zero_label'):
                said[f'The mask {info["seg_map_path"]} has'] = sample[
                    'gt_seg_map'].shape[:2]
                labels |= _check_labels(sample, heads or {}, ignore_index)
            _check_size(sample, said)
        if hasattr(part, 'reduce_zero_label'):
            _watch_masks(part.pipeline.transforms, heads or {}, ignore_index)
        if labels in ({0, 255}, {255}) and ignore_index == 255:
            held = ' and '.join(map(str, sorted(labels)))
            warn(f'{name}: the masks that were checked hold {held} only, and 255 is '
                 'ignored; if 255 is the foreground, write it as 1.')


class MaskCheck:
    """A step behind the loading steps of mmseg: refuses a mask that cannot work.

    Losses would index out of their range, and not name the file.
    """

    def __init__(self, heads: Mapping[str, int], ignore_index: int) -> None:
        self.heads, self.ignore_index = heads, ignore_index

    def __call__(self, sample: dict) -> dict:
        if 'gt_seg_map' in sample:
            _check_labels(sample, self.heads, self.ignore_index)
            _check_size(dict(sample, img_shape=sample.get('ori_shape')), {
                f'The mask {sample["seg_map_path"]} has': sample['gt_seg_map'].shape[:2]
            })
        return sample


def _watch_masks(steps: List[Callable], heads: Mapping[str, int],
                 ignore_index: int) -> None:
    """Put one :class:`MaskCheck` behind the annotations' loading, in place."""
    steps[:] = [step for step in steps if not isinstance(step, MaskCheck)]
    for index, step in enumerate(steps):
        if type(step).__name__ == 'LoadAnnotations':
            steps.insert(index + 1, MaskCheck(heads, ignore_index))
            return


def _packed(dataset: ToolboxDataset, info: dict) -> dict:
    return dataset.pipeline(dict(info))


def _load(info: dict, steps: List[Callable], name: str) -> dict:
    """What the steps of a pipeline that read files make of a sample."""
    files = [info[key] for key in FILES if info.get(key)]
    if not all(isinstance(path, (str, os.PathLike)) and is_local(path)
               for path in files):
        return info
    for path in files:
        if not os.path.isfile(path):
            raise ConfigurationError(f'{name} names {path}, which does not exist.')
    sample = dict(info)
    for step in steps:
        try:
            sample = step(sample)
        except Exception as error:  # whatever a loader makes of other files
            raise ConfigurationError(
                f'{name}: {type(step).__name__} of its pipeline cannot load '
                f'{" and ".join(map(str, files))}: {reason_of(error)}') from error
        if sample is None:  # a data set takes another sample then
            return {}
    return sample


def _reads_from_disk(step: Callable) -> bool:
    backend = (getattr(step, 'backend_args', None) or {}).get('backend', 'local')
    return backend in ('local', 'disk')


def _check_size(sample: dict, said: Mapping[str, tuple]) -> None:
    """Refuse an image of another size than what was drawn on it.

    Args:
        sample (dict): With its image loaded, or without.
        said (Mapping[str, tuple]): Who says or has a size -> (height, width).
    """
    loaded = tuple(sample.get('img_shape') or ())[:2]
    for claim, size in said.items():
        if loaded and None not in size and tuple(size) != loaded:
            turned = ('; images are turned as their EXIF orientation says: write them '
                      'turned and without it' if tuple(size) == loaded[::-1] else '')
            raise ConfigurationError(
                f'{claim} {size[1]} x {size[0]} pixels (width x height), but the image '
                f'{sample.get("img_path")} has {loaded[1]} x {loaded[0]} when it is '
                f'loaded{turned}.')


def _check_labels(sample: dict, heads: Mapping[str, int],
                  ignore_index: int) -> Set[int]:
    """Refuse a mask with a label that a head does not predict.

    Returns:
        set[int]: The labels in the file, where these are what is loaded.
    """
    path, mask = sample['seg_map_path'], sample['gt_seg_map']
    if mask.ndim != 2:
        raise ConfigurationError(
            f'The mask {path} is an image of {mask.shape[-1]} channels, but must '
            'hold one label per pixel: grey or palette.')
    _check_bits(path, mask)
    labels = set(np.unique(mask).tolist())
    reduced = bool(sample.get('reduce_zero_label'))
    for head, num_classes in heads.items():
        wrong = [label for label in labels - {ignore_index} if label >= num_classes]
        if wrong:
            hint = '' if reduced else (
                '; is 0 the background? Then set reduce_zero_label=True, which leaves '
                'it out')
            raise ConfigurationError(
                f'The mask {path} holds the label {max(wrong) + reduced}, but {head} '
                f'has {num_classes} classes, 0 to {num_classes - 1} ({ignore_index} is '
                f'ignored){hint}.')
    return set() if reduced or sample.get('label_map') else labels


def _check_bits(path: str, mask: np.ndarray) -> None:
    """Refuse values above 255, of which mmseg keeps the low byte as the label."""
    if mask.dtype != np.uint8 or not is_local(path):
        return
    try:
        with Image.open(path) as image:
            if not image.mode.startswith(('I', 'F')):
                return
            largest = np.asarray(image).max().item()
    except UnidentifiedImageError:  # of another decoder
        return
    if largest > 255:
        raise ConfigurationError(
            f'The mask {path} holds the value {largest}, which would be read as '
            f'{int(largest) % 256}: labels are 0 to 255, with 8 bits per pixel.')
