"""Write instance masks in COCO's format."""
import json
import os
from typing import Iterable, List, Sequence, Tuple

import numpy as np

from mixedae_mm.utils.optional import require
from .object_painter import Instance


def annotation_of(instance: Instance) -> dict:
    """What COCO says of an object, without ids."""
    coco = require('pycocotools.mask', 'pycocotools', "A mask in COCO's format")
    encoded = coco.encode(np.asfortranarray(instance.mask, np.uint8))
    return dict(
        category_id=instance.label + 1,
        bbox=coco.toBbox(encoded).astype(int).tolist(),
        area=int(coco.area(encoded)),
        iscrowd=0,
        segmentation=dict(encoded, counts=encoded['counts'].decode()))


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
