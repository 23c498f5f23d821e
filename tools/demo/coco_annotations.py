"""Write instance masks in COCO's format."""
import json
import os
from typing import Iterable, List, Sequence, Tuple

import numpy as np

from .object_painter import Instance


def encode_mask(mask: np.ndarray) -> dict:
    """COCO's uncompressed run-length encoding of a mask (H, W) of bool."""
    flat = np.concatenate([[0], mask.flatten('F').astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], edges, [mask.size]]))
    if counts[-1] == 0:
        counts = counts[:-1]
    return dict(size=list(mask.shape), counts=counts.tolist())


def annotation_of(instance: Instance) -> dict:
    """What COCO says of an object, without ids."""
    label, mask = instance
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    left, top = int(columns[0]), int(rows[0])
    return dict(
        category_id=label + 1,
        bbox=[left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top],
        area=int(mask.sum()),
        iscrowd=0,
        segmentation=encode_mask(mask))


def write_annotations(path: str, classes: Sequence[str],
                      painted: Iterable[Tuple[str, List[dict], Sequence[int]]]) -> None:
    """Write an ``instances_*.json``; category ids are places in ``classes`` plus one.

    ``painted`` is of each image its file name, what :func:`annotation_of` says of its
    objects, and its shape.
    """
    images, annotations = [], []
    for image_id, (file_name, objects, (height, width, *_)) in enumerate(painted, 1):
        images.append(dict(
            id=image_id, file_name=file_name, height=height, width=width))
        annotations += [dict(id=number, image_id=image_id, **found) for number, found
                        in enumerate(objects, len(annotations) + 1)]
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.write(json.dumps(dict(  # json.dump is ten times slower
            info=dict(description='Generated from photographs of scikit-image'),
            licenses=[],
            categories=[dict(id=index, name=name, supercategory='object')
                        for index, name in enumerate(classes, 1)],
            images=images, annotations=annotations)))
