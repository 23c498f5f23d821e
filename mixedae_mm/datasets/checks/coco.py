"""Annotation files in COCO's format must be complete and fit the classes."""
from collections import Counter
from numbers import Real
from typing import Optional, Sequence, Set

from mmengine import fileio
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError, nearest
from ...utils.messages import listed, refuse_or_warn, warn
from .class_names import declared_names
from .walking import leaves

# What mmdet's data set and pycocotools read of every annotation; evaluation needs
# one more.
TRAINED_KEYS = ('id', 'image_id', 'bbox', 'area', 'category_id')
EVALUATED_KEYS = (*TRAINED_KEYS, 'iscrowd')
SECTIONS = dict(images=('id', 'file_name', 'height', 'width'),
                annotations=TRAINED_KEYS, categories=('id', 'name'))
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
        path = part.ann_file
        try:
            content = fileio.load(
                path, backend_args=getattr(part, 'backend_args', None))
        except ValueError as error:
            raise ConfigurationError(
                f'{path} of {name} is not valid JSON: {error}.') from error
        if _is_panoptic(content):
            continue
        is_test = getattr(part, 'test_mode', False)
        if is_test and isinstance(content, dict):
            content.setdefault('annotations', [])  # COCO's test images have none
        check_content(content, path, SECTIONS)
        default = getattr(type(part), 'METAINFO', {}).get('classes', ())
        own = not type(part).__module__.startswith('mmdet.')
        check_categories(content, path, classes,
                         is_own=own or list(classes) != list(default))
        filters = getattr(part, 'filter_cfg', None) or {}
        check_annotated(content, path, classes, with_masks=_loads_masks(part),
                        all_images=not filters.get('filter_empty_gt'),
                        evaluated=is_test)


def check_coco_metric(metric, classes: Optional[Sequence[str]], path: str) -> None:
    """Refuse an annotation file that mmdet's ``CocoMetric`` cannot evaluate.

    Args:
        metric: Any metric; those without a loaded COCO file are let through, as are
            those that write results instead of evaluating.
        classes (Sequence[str], optional): Of the data set.
        path (str): The file, or the option that names it.
    """
    content = getattr(getattr(metric, '_coco_api', None), 'dataset', None)
    if content is None or getattr(metric, 'format_only', False) or _is_panoptic(
            content):
        return
    check_content(content, path, dict(SECTIONS, annotations=EVALUATED_KEYS, images=()))
    if any(one['id'] == 0 for one in content['annotations']):
        raise ConfigurationError(
            f"An entry of 'annotations' in {path} has the id 0, which pycocotools "
            'takes for "not found": its object would count as missed. Number them '
            'from 1.')
    if classes:
        check_categories(content, path, classes, is_own=False)


def check_content(content: dict, path: str, sections: dict) -> None:
    """Refuse a file that lacks what mmdet or pycocotools read of it.

    Args:
        content (dict): Of the file.
        path (str): The file.
        sections (dict): Name of a section -> keys that each of its entries must have.
    """
    for section, keys in sections.items():
        if not isinstance(content, dict) or section not in content:
            raise ConfigurationError(
                f"{path} has no '{section}', which COCO's format demands.")
        entries = content[section]
        if not isinstance(entries, list) or not all(
                isinstance(entry, dict) for entry in entries):
            raise ConfigurationError(
                f"'{section}' in {path} must be a list of dictionaries.")
        for number, entry in enumerate(entries):
            missing = next((key for key in keys if entry.get(key) is None), None)
            if missing:
                which = f'id {entry["id"]}' if 'id' in entry else f'number {number}'
                raise ConfigurationError(
                    f"The entry with {which} of '{section}' in {path} has no "
                    f"'{missing}'{ADVICE.get(missing, '')}; each must have "
                    f'{", ".join(keys)}.')
        # pycocotools keeps the last one of them.
        numbers = Counter(entry['id'] for entry in entries if 'id' in entry)
        twice = [number for number, count in numbers.items() if count > 1]
        if twice:
            raise ConfigurationError(
                f"{numbers[twice[0]]} entries of '{section}' in {path} have the id "
                f'{twice[0]!r}, but each must have its own.')
    for annotation in content['annotations']:
        box, area = annotation.get('bbox', (0, 0, 0, 0)), annotation.get('area', 0)
        if not (isinstance(box, (list, tuple)) and len(box) == 4
                and all(isinstance(number, Real) for number in (*box, area))):
            raise ConfigurationError(
                f"Annotation {annotation.get('id', 'without id')} in {path} has "
                f'bbox={box!r} and area={area!r}, but must have four numbers and one.')


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
            f"{path} has no category '{missing}'{hint}; it has {listed(names, 20)}.")
    ordered = [name for name in names if name in classes]
    if ordered != list(classes):
        label = next(i for i, one in enumerate(ordered) if one != classes[i])
        sentence = (
            f'Labels follow the order of the categories in {path}, not that of '
            f"classes: label {label} is '{ordered[label]}'; give classes in the "
            f'order {listed(ordered, 20)}.')
        refuse_or_warn(sentence, is_own)


def check_annotated(content: dict, path: str, classes: Sequence[str],
                    with_masks: bool, all_images: bool, evaluated: bool) -> None:
    """Refuse a file of which nothing is left, and objects without a mask.

    Args:
        content (dict): Of the file.
        path (str): The file.
        classes (Sequence[str]): Of the data set.
        with_masks (bool): Whether the pipeline loads masks.
        all_images (bool): Whether images without an object are kept.
        evaluated (bool): Whether it is one of a test or validation.
    """
    if not content['images']:
        raise ConfigurationError(f'{path} has no images.')
    labels: Set = {category['id'] for category in content['categories']
                   if category['name'] in classes}
    wanted = [one for one in content['annotations'] if one['category_id'] in labels]
    images = {image['id']: image for image in content['images']}
    _warn_of_other_categories(content, path)
    objects = [one for one in wanted
               if not one.get('ignore') and not one.get('iscrowd')]
    hidden = [one for one in objects
              if not _is_visible(one, images.get(one['image_id']))]
    if not evaluated and not all_images and not any(
            one['image_id'] in images for one in wanted):
        raise ConfigurationError(
            f'Not one of the {len(images)} images in {path} has an annotation of the '
            'classes, and filter_empty_gt leaves out images without: are image_id and '
            'category_id right?')
    if hidden:
        sentence = (
            f'{len(hidden)} of {len(objects)} objects in {path} are left out, such as '
            f'annotation {hidden[0]["id"]} with bbox={hidden[0]["bbox"]}: each must '
            'have left, top, width and height of at least a pixel inside an image of '
            'the file.')
        refuse_or_warn(sentence, len(hidden) == len(objects) and not evaluated)
    if wanted and not objects and not evaluated:
        raise ConfigurationError(
            f'All {len(wanted)} annotations in {path} are crowds or to be ignored '
            '(iscrowd, ignore): there is nothing to learn.')
    for one in wanted if with_masks else ():
        # mmdet leaves out the others.
        if one['area'] > 0 and not one.get('ignore'):
            _check_segmentation(one, path, evaluated)


def _warn_of_other_categories(content: dict, path: str) -> None:
    known = {category['id'] for category in content['categories']}
    other = [one for one in content['annotations'] if one['category_id'] not in known]
    if other:
        warn(f'{len(other)} of {len(content["annotations"])} annotations in {path} are '
             f'left out, such as {other[0]["id"]} with category_id='
             f'{other[0]["category_id"]!r}, which is none of the categories.')


def _is_visible(one: dict, image: Optional[dict]) -> bool:
    """Whether mmdet takes an object: of a pixel at least, and inside its image."""
    if image is None:
        return False
    left, top, width, height = one['bbox']
    return (one['area'] > 0 and width >= 1 and height >= 1
            and min(left + width, image['width']) > max(left, 0)
            and min(top + height, image['height']) > max(top, 0))


def _check_segmentation(one: dict, path: str, evaluated: bool) -> None:
    """Refuse an object without a mask that mmdet and pycocotools can read."""
    mask = one.get('segmentation')
    if not mask:
        raise ConfigurationError(
            f"Annotation {one['id']} in {path} has no 'segmentation', but the "
            'pipeline loads masks (LoadAnnotations with with_mask=True): give '
            'every object one, or train a model without masks.')
    if not isinstance(mask, list):
        return  # run lengths
    short = [part for part in mask
             if not isinstance(part, list) or len(part) < 6 or len(part) % 2]
    # Training leaves out such a polygon, the metric fails at it.
    if short and (evaluated or len(short) == len(mask)):
        raise ConfigurationError(
            f"Annotation {one['id']} in {path} has the polygon {short[0]!r} in "
            "'segmentation', but each must be x, y, x, y, ... of three points or more.")


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
