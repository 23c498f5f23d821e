"""Annotation files in COCO's format must be complete and fit the classes."""
import logging
from typing import Optional, Sequence

from mmengine import fileio
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError, nearest
from .class_names import declared_names, listed
from .image_sizes import UNKNOWN_TO_PILLOW, check_image_size
from .walking import ToolboxDataset, is_local, leaves, sample_infos

# What mmdet's data set reads of every annotation; evaluation needs one more.
TRAINED_KEYS = ('bbox', 'area', 'category_id')
EVALUATED_KEYS = (*TRAINED_KEYS, 'iscrowd')
# What to write under a key that is missing.
ADVICE = {
    'area': ' (of the mask, or width times height of the box)',
    'iscrowd': ' (0 for a single object)',
}


def check_coco(dataset: Dataset, name: str) -> None:
    """Refuse an annotation file that does not fit the classes of its data set.

    Args:
        dataset (Dataset): In any wrappers, with its samples listed already or
            not. Data sets of other formats are let through.
        name (str): What the config calls it.
    """
    for part in leaves(dataset):
        classes = declared_names(part)
        if not _reads_categories_by_name(part) or not classes:
            continue
        try:
            content = fileio.load(part.ann_file, backend_args=getattr(
                part, 'backend_args', None))
        except ValueError as error:
            raise ConfigurationError(
                f'{part.ann_file} of {name} is not valid JSON: {error}.') from error
        check_annotations(content, part.ann_file, TRAINED_KEYS)
        own_class = not type(part).__module__.startswith('mmdet.')
        default = type(part).METAINFO.get('classes', ())
        check_categories(content, part.ann_file, classes,
                         is_own=own_class or list(classes) != list(default))
        check_boxes(part, content, classes, name)
        if getattr(part, '_fully_initialized', True):
            check_sizes(part)


def check_coco_metric(metric, classes: Optional[Sequence[str]], path: str) -> None:
    """Refuse an annotation file that mmdet's ``CocoMetric`` cannot evaluate.

    Args:
        metric: Any metric; those without a loaded COCO file are let through.
        classes (Sequence[str], optional): Of the data set.
        path (str): The file, or the option that names it.
    """
    coco = getattr(metric, '_coco_api', None)
    if coco is None or not hasattr(coco, 'dataset'):
        return
    if any('segments_info' in part for part in coco.dataset['annotations'][:1]):
        return  # panoptic
    check_annotations(coco.dataset, path, EVALUATED_KEYS)
    if classes:
        check_categories(coco.dataset, path, classes, is_own=False)


def check_annotations(content: dict, path: str, keys: Sequence[str]) -> None:
    """Refuse annotations that lack what mmdet or pycocotools read of them."""
    for section in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or section not in content:
            raise ConfigurationError(
                f"{path} has no '{section}', which COCO's format demands.")
    for annotation in content['annotations']:
        missing = [key for key in keys if key not in annotation]
        if missing:
            raise ConfigurationError(
                f"Annotation {annotation.get('id', 'without id')} in {path} has no "
                f"'{missing[0]}'{ADVICE.get(missing[0], '')}; each must have "
                f'{", ".join(keys)}.')


def check_categories(content: dict, path: str, classes: Sequence[str],
                     is_own: bool) -> None:
    """Refuse classes that the file does not have.

    mmdet leaves their boxes out and moves all later classes up by one.

    Args:
        content (dict): Of the file.
        path (str): The file.
        classes (Sequence[str]): Of the data set.
        is_own (bool): Whether the user gave them. The order of those that mmdet
            gives is only warned of: it changes nothing but names.
    """
    names = [category['name'] for category in content['categories']]
    for missing in (one for one in classes if one not in names):
        close = nearest(missing, names, cutoff=0.5)
        hint = f" (did you mean '{close}'?)" if close else ''
        raise ConfigurationError(
            f"{path} has no category '{missing}'{hint}; it has {listed(names)}.")
    ordered = [name for name in names if name in classes]
    if ordered != list(classes):
        label = next(i for i, one in enumerate(ordered) if one != classes[i])
        sentence = (
            f'Labels follow the order of the categories in {path}, not that of '
            f"classes: label {label} is '{ordered[label]}'; give classes in the "
            f'order {listed(ordered)}.')
        if is_own:
            raise ConfigurationError(sentence)
        print_log(sentence, logger='current', level=logging.WARNING)


def check_boxes(dataset: ToolboxDataset, content: dict, classes: Sequence[str],
                name: str) -> None:
    """Refuse a file of which the data set leaves out every image."""
    filters = getattr(dataset, 'filter_cfg', None) or {}
    if not content['images']:
        raise ConfigurationError(f'{dataset.ann_file} of {name} has no images.')
    if getattr(dataset, 'test_mode', False) or not filters.get('filter_empty_gt'):
        return
    wanted = {category['id'] for category in content['categories']
              if category['name'] in classes}
    known = {image['id'] for image in content['images']}
    if not any(one['category_id'] in wanted and one.get('image_id') in known
               for one in content['annotations']):
        raise ConfigurationError(
            f'Not one of the {len(content["images"])} images in {dataset.ann_file} '
            f'of {name} has an annotation of the classes, and filter_empty_gt '
            'leaves out images without: are image_id and category_id right?')


def check_sizes(dataset: ToolboxDataset) -> None:
    """Refuse a few images of other sizes than their annotations were made for."""
    for info in sample_infos(dataset):
        image_path, width, height = (
            info.get(key) for key in ('img_path', 'width', 'height'))
        if not is_local(image_path) or width is None or height is None:
            continue
        try:
            check_image_size(image_path, (width, height), f'{dataset.ann_file} says')
        except UNKNOWN_TO_PILLOW:
            continue  # other loaders may read it


def _reads_categories_by_name(dataset: Dataset) -> bool:
    """Whether labels come from names in the file, as in mmdet's CocoDataset."""
    load = getattr(type(dataset), 'load_data_list', None)
    return getattr(load, '__qualname__', '') == 'CocoDataset.load_data_list'
