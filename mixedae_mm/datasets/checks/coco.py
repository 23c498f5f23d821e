"""Annotation files in COCO's format must be complete and fit the classes."""
from collections import Counter
from numbers import Real
from typing import Any, Optional, Sequence

from mmengine import fileio
from torch.utils.data import Dataset

from ...utils.errors import ConfigurationError, nearest
from ...utils.messages import listed, refuse_or_warn, warn
from .walking import ToolboxDataset, declared_names, leaves

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

    The data set may have listed its samples or not. Those of other formats are let
    through.
    """
    for part in leaves(dataset):
        classes = declared_names(part)
        load = getattr(type(part), 'load_data_list', None)
        # Labels come from names in the file, as in mmdet's own data set.
        if not classes or getattr(load, '__qualname__', '') != (
                'CocoDataset.load_data_list'):
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
        if part.test_mode and isinstance(content, dict):
            content.setdefault('annotations', [])  # COCO's test images have none
        check_content(content, path, SECTIONS)
        default = getattr(type(part), 'METAINFO', {}).get('classes', ())
        own = not type(part).__module__.startswith('mmdet.')
        check_categories(content, path, classes,
                         is_own=own or list(classes) != list(default))
        _check_annotated(content, path, part)


def check_coco_metric(metric: Any, classes: Optional[Sequence[str]], path: str) -> None:
    """Refuse an annotation file that mmdet's ``CocoMetric`` cannot evaluate.

    Metrics without a loaded COCO file are let through, as are those that write results
    instead of evaluating. ``path`` is that of the file, or the option that names it.
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

    ``sections`` has the keys that each entry of a section must have.
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
        for number, count in Counter(
                entry['id'] for entry in entries if 'id' in entry).items():
            if count > 1:
                raise ConfigurationError(
                    f"{count} entries of '{section}' in {path} have the id {number!r}, "
                    'but each must have its own.')
    if 'bbox' not in sections.get('annotations', ()):
        return
    for one in content['annotations']:
        box, area = one['bbox'], one['area']
        if not (isinstance(box, (list, tuple)) and len(box) == 4
                and all(isinstance(number, Real) for number in (*box, area))):
            raise ConfigurationError(
                f"Annotation {one.get('id', 'without id')} in {path} has bbox={box!r} "
                f'and area={area!r}, but must have four numbers and one.')


def check_categories(content: dict, path: str, classes: Sequence[str],
                     is_own: bool) -> None:
    """Refuse classes that the file lacks, or names another number of times.

    mmdet leaves boxes of missing ones out and moves all later classes up by one. The
    order of those that mmdet itself gives, not the user (``is_own``), is only warned
    of: it changes nothing but names.
    """
    names = [category['name'] for category in content['categories']]
    for missing in (one for one in classes if one not in names):
        close = nearest(missing, names, cutoff=0.5)
        hint = f" (did you mean '{close}'?)" if close else ''
        raise ConfigurationError(
            f"{path} has no category '{missing}'{hint}; it has {listed(names, 20)}.")
    for name in classes:
        found, given = names.count(name), classes.count(name)
        if found != given:
            raise ConfigurationError(
                f"{path} has the category '{name}' {found} times and classes names it "
                f'{given} times, but each must have a name of its own.')
    ordered = [name for name in names if name in classes]
    if ordered != list(classes):
        label = next(i for i, one in enumerate(ordered) if one != classes[i])
        refuse_or_warn(
            f'Labels follow the order of the categories in {path}, not that of '
            f"classes: label {label} is '{ordered[label]}'; give classes in the "
            f'order {listed(ordered, 20)}.', is_own)


def _check_annotated(content: dict, path: str, dataset: ToolboxDataset) -> None:
    """Refuse a file of which nothing is left, and objects without a mask."""
    if not content['images']:
        raise ConfigurationError(f'{path} has no images.')
    evaluated, classes = dataset.test_mode, declared_names(dataset) or ()
    known = {one['id'] for one in content['categories']}
    labels = {one['id'] for one in content['categories'] if one['name'] in classes}
    images = {image['id']: image for image in content['images']}
    annotations = content['annotations']
    other = [one for one in annotations if one['category_id'] not in known]
    if other:
        warn(f'{len(other)} of {len(annotations)} annotations in {path} are left out, '
             f'such as {other[0]["id"]} with category_id={other[0]["category_id"]!r}, '
             'which is none of the categories.')
    wanted = [one for one in annotations if one['category_id'] in labels]
    objects = [one for one in wanted
               if not one.get('ignore') and not one.get('iscrowd')]
    hidden = [one for one in objects
              if not _is_visible(one, images.get(one['image_id']))]
    drops_empty = (dataset.filter_cfg or {}).get('filter_empty_gt')
    if not evaluated and drops_empty and not any(
            one['image_id'] in images for one in wanted):
        raise ConfigurationError(
            f'Not one of the {len(images)} images in {path} has an annotation of the '
            'classes, and filter_empty_gt leaves out images without: are image_id and '
            'category_id right?')
    if hidden:
        refuse_or_warn(
            f'{len(hidden)} of {len(objects)} objects in {path} are left out, such as '
            f'annotation {hidden[0]["id"]} with bbox={hidden[0]["bbox"]}: each must '
            'have left, top, width and height of at least a pixel inside an image of '
            'the file.', len(hidden) == len(objects) and not evaluated)
    if wanted and not objects and not evaluated:
        raise ConfigurationError(
            f'All {len(wanted)} annotations in {path} are crowds or to be ignored '
            '(iscrowd, ignore): there is nothing to learn.')
    if any(getattr(step, 'with_mask', False) for step in dataset.pipeline.transforms):
        for one in wanted:
            # mmdet leaves out the others.
            if one['area'] > 0 and not one.get('ignore'):
                _check_segmentation(one, path, evaluated)


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


def _is_panoptic(content: Any) -> bool:
    """Whether annotations are of whole images, which has other keys."""
    annotations = content.get('annotations') if isinstance(content, dict) else None
    return isinstance(annotations, list) and any(
        isinstance(one, dict) and 'segments_info' in one for one in annotations[:1])
