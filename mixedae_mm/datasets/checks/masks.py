"""Masks must have the size of their image, and labels that the head predicts."""
import logging
from typing import Mapping, Set

import numpy as np
from mmengine.logging import print_log
from PIL import Image
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError
from .image_sizes import UNKNOWN_TO_PILLOW, check_image_size
from .walking import is_local, leaves, sample_infos


def check_masks(dataset: Dataset, heads: Mapping[str, int], name: str,
                ignore_index: int = 255) -> None:
    """Check a few masks of a segmentation data set.

    Args:
        dataset (Dataset): Of mmseg, in any wrappers; others are let through.
        heads (Mapping[str, int]): Number of classes of each head.
        name (str): What the config calls it.
        ignore_index (int): The label that losses ignore.
    """
    for part in leaves(dataset):
        if not _loads_plain_masks(part):
            continue
        values: Set[int] = set()
        for info in sample_infos(part):
            path, image_path = info.get('seg_map_path'), info.get('img_path')
            if not is_local(path) or not is_local(image_path):
                continue
            try:
                with Image.open(path) as mask:
                    check_image_size(image_path, mask.size, f'The mask {path} has')
                    values |= check_mask_labels(
                        path, np.asarray(mask), info, heads, ignore_index)
            except UNKNOWN_TO_PILLOW:
                continue  # other loaders may read it
        if values == {0, 255} and ignore_index == 255:
            print_log(
                f'{name}: the masks that were checked hold 0 and 255 only, and '
                '255 is ignored; if 255 is the foreground, write it as 1.',
                logger='current', level=logging.WARNING)


def check_mask_labels(path: str, mask: np.ndarray, info: dict,
                      heads: Mapping[str, int], ignore_index: int) -> Set[int]:
    """Refuse a mask with a label that a head does not predict.

    Returns:
        set[int]: The values in the mask.
    """
    if mask.ndim != 2:
        raise ConfigurationError(
            f'The mask {path} is an image of {mask.shape[-1]} channels, but must '
            'hold one label per pixel: grey or palette.')
    values = np.unique(mask).astype(np.int64)
    labels = loaded_labels(values, info)
    for head, num_classes in heads.items():
        wrong = (labels >= num_classes) & (labels != ignore_index)
        if wrong.any():
            value = values[wrong].max()
            hint = ''
            if not info.get('reduce_zero_label'):
                hint = ('; is 0 the background? Then set reduce_zero_label=True, '
                        'which leaves it out')
            raise ConfigurationError(
                f'The mask {path} holds the label {value}, but {head} has '
                f'{num_classes} classes, 0 to {num_classes - 1} ({ignore_index} is '
                f'ignored){hint}.')
    return set(values.tolist())


def loaded_labels(values: np.ndarray, info: dict) -> np.ndarray:
    """What mmseg's ``LoadAnnotations`` makes of values in a mask."""
    labels = values.copy()
    if info.get('reduce_zero_label'):
        labels = np.where((labels == 0) | (labels == 255), 255, labels - 1)
    mapped = labels.copy()
    for old, new in (info.get('label_map') or {}).items():
        mapped[labels == old] = new
    return mapped


def _loads_plain_masks(dataset: Dataset) -> bool:
    """Whether masks are read as they are, by the loader of mmseg."""
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return hasattr(dataset, 'reduce_zero_label') and any(
        type(transform).__name__ == 'LoadAnnotations' for transform in transforms)
