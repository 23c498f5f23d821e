"""Annotation files in COCO's format must be complete and fit the classes."""
import logging
from numbers import Real
from typing import Optional, Sequence

from mmengine import fileio
from mmengine.logging import print_log
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError, nearest
from .class_names import declared_names, listed
from .image_sizes import UNKNOWN_TO_PILLOW, check_image_size
from .walking import ToolboxDataset, is_local, leaves, sample_infos

# What mmdet's data set and pycocotools read of every annotation; evaluation needs
# one more.
TRAINED_KEYS = ('id', 'image_id', 'bbox', 'area', 'category_id')
EVALUATED_KEYS = (*TRAINED_KEYS, 'iscrowd')
IMAGE_KEYS = ('id', 'file_name', 'height', 'width')
CATEGORY_KEYS = ('id', 'name')
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
        if _is_panoptic(content):
            continue
        if getattr(part, 'test_mode', False) and isinstance(content, dict):
            content.setdefault('annotations', [])  # COCO's test images have none
        check_annotations(content, part.ann_file, TRAINED_KEYS)
        check_entries(content, part.ann_file, 'images', IMAGE_KEYS)
        if _loads_masks(part):
            check_segmentations(content, part.ann_file, classes)
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
        metric: Any metric; those without a loaded COCO file are let through, as are
            those that write results instead of evaluating.
        classes (Sequence[str], optional): Of the data set.
        path (str): The file, or the option that names it.
    """
    coco = getattr(metric, '_coco_api', None)
    if coco is None or not hasattr(coco, 'dataset') or getattr(
            metric, 'format_only', False):
        return
    if _is_panoptic(coco.dataset):
        return
    check_annotations(coco.dataset, path, EVALUATED_KEYS)
    if classes:
        check_categories(coco.dataset, path, classes, is_own=False)


def check_annotations(content: dict, path: str, keys: Sequence[str]) -> None:
    """Refuse annotations that lack what mmdet or pycocotools read of them."""
    for section in ('images', 'annotations', 'categories'):
        if not isinstance(content, dict) or section not in content:
            raise ConfigurationError(
                f"{path} has no '{section}', which COCO's format demands.")
    check_entries(content, path, 'annotations', keys)
    check_entries(content, path, 'categories', CATEGORY_KEYS)
    for annotation in content['annotations']:
        box = annotation.get('bbox', (0, 0, 0, 0))
        if not (isinstance(box, (list, tuple)) and len(box) == 4 and all(
                isinstance(number, Real) for number in
                (*box, annotation.get('area', 0)))):
            raise ConfigurationError(
                f"Annotation {annotation.get('id', 'without id')} in {path} has "
                f'bbox={box!r} and area={annotation.get("area")!r}, but must have '
                'four numbers and one.')


def check_entries(content: dict, path: str, section: str, keys: Sequence[str]) -> None:
    """Refuse a section that is not a list of dictionaries with these keys."""
    entries = content[section]
    if not isinstance(entries, list) or not all(
            isinstance(entry, dict) for entry in entries):
        raise ConfigurationError(
            f"'{section}' in {path} must be a list of dictionaries.")
    for number, entry in enumerate(entries):
        for key in keys:
            if entry.get(key) is None:
                name = f'id {entry["id"]}' if 'id' in entry else f'number {number}'
                raise ConfigurationError(
                    f"The entry with {name} of '{section}' in {path} has no "
                    f"'{key}'{ADVICE.get(key, '')}; each must have "
                    f'{", ".join(keys)}.')


def check_segmentations(content: dict, path: str, classes: Sequence[str]) -> None:
    """Refuse objects without a mask, where the pipeline loads masks."""
    wanted = {category['id'] for category in content['categories']
              if category['name'] in classes}
    for annotation in content['annotations']:
        # mmdet leaves out the others.
        if (annotation['category_id'] in wanted and annotation['area'] > 0
                and not annotation.get('ignore')
                and not annotation.get('segmentation')):
            raise ConfigurationError(
                f"Annotation {annotation['id']} in {path} has no 'segmentation', but "
                'the pipeline loads masks (LoadAnnotations with with_mask=True): '
                'give every object one, or train a model without masks.')


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


def _is_panoptic(content: dict) -> bool:
    """Whether annotations are of whole images, which has other keys."""
    annotations = content.get('annotations') if isinstance(content, dict) else None
    return isinstance(annotations, list) and any(
        isinstance(one, dict) and 'segments_info' in one for one in annotations[:1])


def _loads_masks(dataset: Dataset) -> bool:
    transforms = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
    return any(getattr(transform, 'with_mask', False) for transform in transforms)
