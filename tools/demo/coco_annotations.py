"""Write instance masks in COCO's format."""
import json
import os
from typing import List, Sequence

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


class CocoAnnotations:
    """Collects what an ``instances_*.json`` of COCO holds.

    Args:
        classes (Sequence[str]): Names; category ids are their places plus one.
    """

    def __init__(self, classes: Sequence[str]):
        self.classes = classes
        self.images, self.annotations = [], []

    def add(self, file_name: str, annotations: List[dict],
            shape: Sequence[int]) -> None:
        """Add an image of ``shape`` (height, width) and its objects."""
        image_id = len(self.images) + 1
        self.images.append(dict(
            id=image_id, file_name=file_name, height=shape[0], width=shape[1]))
        for annotation in annotations:
            self.annotations.append(dict(
                id=len(self.annotations) + 1, image_id=image_id, **annotation))

    def write(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        categories = [
            dict(id=index + 1, name=name, supercategory='object')
            for index, name in enumerate(self.classes)
        ]
        with open(path, 'w') as file:
            file.write(json.dumps(dict(  # json.dump is ten times slower
                info=dict(description='Generated from photographs of scikit-image'),
                licenses=[], categories=categories, images=self.images,
                annotations=self.annotations)))
