"""Small labelled sets of real pixels, in the layouts of the large ones.

What is in the images is said in :mod:`~.object_painter`.
"""
import os
from typing import Sequence, Tuple

import numpy as np
from PIL import Image

from mixedae_mm.utils.checks import check_count
from .coco_annotations import annotation_of, write_annotations
from .generated import generate_once, on_all_cores
from .object_painter import OBJECT_CLASSES, SPLITS, Instance, Painter

JPEG_QUALITY = 92


def make_object_folder(folder: str,
                       num_train: int = 2000,
                       num_val: int = 400,
                       size: int = 96,
                       seed: int = 0,
                       classes: Sequence[str] = OBJECT_CLASSES) -> None:
    """Images of one centred object each, in ImageNet's layout.

    Writes ``{train,val}/<class>/*.jpg``. The classes take turns.

    Args:
        folder (str): Where to; must be new, empty or generated before.
        num_train, num_val (int): Numbers of images, at least one per class.
        size (int): Side of the square images in pixels, at least 32.
        seed (int): In [0, 2**32).
        classes (Sequence[str]): Different ones of :data:`OBJECT_CLASSES`.

    Raises:
        ConfigurationError: If there are fewer images than classes, the folder holds
            other files or scikit-image is not installed.
    """
    for name, number in (('num_train', num_train), ('num_val', num_val)):
        check_count(f'make_object_folder: {name}', number, len(classes))

    def write(root: str) -> None:
        for split, number in zip(SPLITS, (num_train, num_val)):
            painter = Painter(seed, split)

            def paint(index: int) -> None:
                name = classes[index % len(classes)]
                image, _ = painter.centred_object(
                    index, OBJECT_CLASSES.index(name), size)
                _save(image, root, f'{split}/{name}/{name}_{index:05d}.jpg')

            on_all_cores(paint, number)

    generate_once(
        folder,
        dict(generator='labelled objects', version=1, num_train=num_train,
             num_val=num_val, size=size, seed=seed, classes=classes), write)


def make_scene_folder(folder: str,
                      num_train: int = 400,
                      num_val: int = 100,
                      size: int = 160,
                      max_objects: int = 6,
                      seed: int = 0,
                      classes: Sequence[str] = OBJECT_CLASSES,
                      radii: Tuple[float, float] = (0.1, 0.24),
                      inside: float = 0.6) -> None:
    """Images of several objects, in ADE20K's and in COCO's layout.

    Writes the same scenes twice:

    - ``ade/images/{training,validation}/*.jpg`` and
      ``ade/annotations/{training,validation}/*.png``, maps of indices into
      ``('background', *classes)`` plus one, as in ADE20K, whose 0 means "other", to be
      read with ``reduce_zero_label=True``;
    - ``coco/{train,val}2017/*.jpg`` and
      ``coco/annotations/instances_{train,val}2017.json``, with the visible
      part of each object as run lengths.

    Args:
        folder, num_train, num_val, seed, classes: As of :func:`make_object_folder`,
            which also says what is raised; one image is enough.
        size (int): Longer side of an image in pixels, at least 32.
        max_objects (int): Largest number of objects in an image, at least 2.
        radii, inside: As of :meth:`.object_painter.Painter.scene`.
    """
    labels = [OBJECT_CLASSES.index(name) for name in classes]
    look = dict(radii=radii, inside=inside)

    def write(root: str) -> None:
        for split, number, long_name in zip(
                SPLITS, (num_train, num_val), ('training', 'validation')):
            painter = Painter(seed, split)

            def paint(index: int):
                image, instances = painter.scene(
                    index, size, max_objects, labels, **look)
                instances = [Instance(labels.index(label), mask)
                             for label, mask in instances]
                semantic = np.ones(image.shape[:2], np.uint8)  # background
                for label, mask in instances:
                    semantic[mask] = 1 + label + 1
                stem = f'{long_name}/ADE_{split}_{index + 1:08d}'
                _save(image, root, f'ade/images/{stem}.jpg')
                _save(semantic, root, f'ade/annotations/{stem}.png')
                file_name = f'{index + 1:012d}.jpg'
                _save(image, root, f'coco/{split}2017/{file_name}')
                return file_name, list(map(annotation_of, instances)), image.shape

            write_annotations(
                os.path.join(root, f'coco/annotations/instances_{split}2017.json'),
                classes, on_all_cores(paint, number))

    generate_once(
        folder,
        dict(generator='labelled scenes', version=1, num_train=num_train,
             num_val=num_val, size=size, max_objects=max_objects, seed=seed,
             classes=classes, **look),
        write)


def _save(array: np.ndarray, root: str, relative: str) -> None:
    path = os.path.join(root, relative)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    Image.fromarray(array).save(path, quality=JPEG_QUALITY)
