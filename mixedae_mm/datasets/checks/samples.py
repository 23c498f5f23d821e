"""Files, sizes and labels of a few samples, loaded as the pipeline loads them."""
import os
from typing import Callable, List, Mapping, Optional, Set

import numpy as np
from PIL import Image, UnidentifiedImageError
from torch import nn
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError
from ...utils.messages import reason_of, warn
from .channels import check_channels
from .walking import is_local, leaves, place_of, sample_infos

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
    checked when they are loaded. Losses ignore the label ``ignore_index``.
    """
    warned, check = False, MaskCheck(heads or {}, ignore_index)
    for part in leaves(dataset):
        transforms = getattr(getattr(part, 'pipeline', None), 'transforms', [])
        # Those of a test may load the annotations after resizing the image.
        steps = [step for step in transforms if type(step).__name__.startswith('Load')]
        if hasattr(part, 'max_bad_share') and not part.test_mode:
            continue  # it replaces images that cannot be read
        if not all(map(_reads_from_disk, steps)):
            continue  # workers must not inherit an open data base
        labels: Set[int] = set()
        for info in sample_infos(part):
            sample = _load(info, steps, name)
            if model is not None:
                warned |= check_channels(sample, model, name, not warned,
                                         lambda: part.pipeline(dict(info)))
            _check_size(sample, f'{place_of(part)} says',
                        (info.get('height'), info.get('width')))
            # Of mmseg: those of mmdet hold other numbers.
            if hasattr(part, 'reduce_zero_label'):
                labels |= check.labels_of(sample)
        if hasattr(part, 'reduce_zero_label'):
            _watch_masks(transforms, check)
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
        # A test may have resized the image before.
        self.labels_of(dict(sample, img_shape=sample.get('ori_shape')))
        return sample

    def labels_of(self, sample: dict) -> Set[int]:
        """The labels in a mask's file, where these are what is loaded.

        Raises:
            ConfigurationError: For a label that a head does not predict, and another
                size than the image's.
        """
        if 'gt_seg_map' not in sample:
            return set()
        path, mask = sample['seg_map_path'], sample['gt_seg_map']
        if mask.ndim != 2:
            raise ConfigurationError(
                f'The mask {path} is an image of {mask.shape[-1]} channels, but must '
                'hold one label per pixel: grey or palette.')
        _check_bits(path, mask)
        labels = set(np.unique(mask).tolist())
        reduced = bool(sample.get('reduce_zero_label'))
        largest = max(labels - {self.ignore_index}, default=0)
        for head, num_classes in self.heads.items():
            if largest >= num_classes:
                hint = '' if reduced else (
                    '; is 0 the background? Then set reduce_zero_label=True, which '
                    'leaves it out')
                raise ConfigurationError(
                    f'The mask {path} holds the label {largest + reduced}, but {head} '
                    f'has {num_classes} classes, 0 to {num_classes - 1} '
                    f'({self.ignore_index} is ignored){hint}.')
        _check_size(sample, f'The mask {path} has', mask.shape[:2])
        return set() if reduced or sample.get('label_map') else labels


def _watch_masks(steps: List[Callable], check: MaskCheck) -> None:
    """Put one :class:`MaskCheck` behind the annotations' loading, in place."""
    steps[:] = [step for step in steps if not isinstance(step, MaskCheck)]
    names = [type(step).__name__ for step in steps]
    if 'LoadAnnotations' in names:
        steps.insert(names.index('LoadAnnotations') + 1, check)


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


def _check_size(sample: dict, claim: str, size: tuple) -> None:
    """Refuse an image of another size ``(height, width)`` than what was drawn on it."""
    loaded = tuple(sample.get('img_shape') or ())[:2]
    if loaded and None not in size and tuple(size) != loaded:
        turned = ('; images are turned as their EXIF orientation says: write them '
                  'turned and without it' if tuple(size) == loaded[::-1] else '')
        raise ConfigurationError(
            f'{claim} {size[1]} x {size[0]} pixels (width x height), but the image '
            f'{sample.get("img_path")} has {loaded[1]} x {loaded[0]} when it is '
            f'loaded{turned}.')


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
