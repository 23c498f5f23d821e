"""Exact object masks of image files, from COCO's or VOC's format."""
import io
import random
from contextlib import redirect_stdout
from pathlib import Path
from typing import Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image

from ..datasets.checks.coco import check_content
from ..utils.errors import ConfigurationError
from ..utils.messages import listed, reason_of
from ..utils.optional import require

VOC_VOID = 255  # borders of objects and unlabelled pixels


class MaskedImage(NamedTuple):
    """An image file and where its objects are."""
    path: str
    objects: np.ndarray  # (H, W) bool, on any object
    # (H, W) bool, False where the annotation does not say: VOC's void, COCO's crowds.
    counts: np.ndarray


class CocoMasks:
    """Masks of an ``instances_*.json``; the union of an image's objects.

    Images without an object are left out. File names are relative to the folder.

    Raises:
        ConfigurationError: If pycocotools is not installed, the file is missing or of
            another format, or lacks the image of an object; in :meth:`read`, if the
            mask of an object cannot be drawn.
    """

    def __init__(self, annotation_file: str, image_folder: str) -> None:
        library = require('pycocotools.coco', 'pycocotools', "A mask in COCO's format")
        self.file, self.folder = annotation_file, Path(image_folder)
        try:
            with redirect_stdout(io.StringIO()):  # it tells how it gets on
                self.coco = library.COCO(annotation_file)
        except (OSError, ValueError, KeyError, TypeError, AssertionError) as error:
            raise ConfigurationError(
                f'{annotation_file} cannot be read as annotations in COCO\'s '
                f'format ({type(error).__name__}: {error}).') from error
        check_content(self.coco.dataset, annotation_file, dict(
            images=('id', 'file_name', 'height', 'width'),
            annotations=('id', 'image_id', 'segmentation')))
        lost = set(self.coco.imgToAnns) - set(self.coco.imgs)
        if lost:
            raise ConfigurationError(
                f"Annotations in {annotation_file} are of images that are not in its "
                f"'images': image_id {listed(sorted(map(str, lost)), 3)}.")
        self.ids = [
            number for number, objects in self.coco.imgToAnns.items()
            if any(not item.get('iscrowd') for item in objects)]

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, index: int) -> MaskedImage:
        image = self.coco.imgs[self.ids[index]]
        # Of crowds in row 1, of single objects in row 0.
        masks = np.zeros((2, image['height'], image['width']), bool)
        for annotation in self.coco.imgToAnns[image['id']]:
            try:
                mask = self.coco.annToMask(annotation).astype(bool)
                masks[int(bool(annotation.get('iscrowd')))] |= mask
            except Exception as error:  # pycocotools raises it too
                raise ConfigurationError(
                    f"The 'segmentation' of annotation {annotation['id']} in "
                    f"{self.file} is not a mask of {image['height']} x "
                    f"{image['width']} pixels ({type(error).__name__}: {error})."
                ) from error
        objects, crowds = masks
        return MaskedImage(
            str(self.folder / image['file_name']), objects, objects | ~crowds)


class VocMasks:
    """Masks of a folder like ``VOCdevkit/VOC2012``.

    It holds ``JPEGImages`` and ``SegmentationObject`` (or, where that is missing,
    ``SegmentationClass``). ``split`` is the name of a list in
    ``ImageSets/Segmentation``; by default all images that have a mask are taken.

    Raises:
        ConfigurationError: If a folder, the list or all masks are missing; in
            :meth:`read`, if the mask of that image is missing or is not one.
    """

    def __init__(self, root: str, split: Optional[str] = None) -> None:
        self.images = Path(root) / 'JPEGImages'
        self.masks = Path(root) / 'SegmentationObject'
        if not self.masks.is_dir() and (Path(root) / 'SegmentationClass').is_dir():
            self.masks = Path(root) / 'SegmentationClass'
        for folder in (self.images, self.masks):
            if not folder.is_dir():
                raise ConfigurationError(
                    f'{root} is not in VOC\'s format: it has no folder '
                    f'{folder.name}.')
        self.names: List[str] = sorted(path.stem for path in self.masks.glob('*.png'))
        if split is not None:
            file = Path(root) / f'ImageSets/Segmentation/{split}.txt'
            if not file.is_file():
                raise ConfigurationError(f'There is no list of images {file}.')
            self.names = file.read_text().split()
        if not self.names:
            raise self._without('*.png')

    def __len__(self) -> int:
        return len(self.names)

    def read(self, index: int) -> MaskedImage:
        name = self.names[index]
        file = self.masks / f'{name}.png'
        if not file.is_file():
            raise self._without(file.name)
        # A palette image: the indices are what counts, not the colours.
        try:
            labels = np.asarray(Image.open(file))
        except OSError as error:
            raise ConfigurationError(
                f'The mask {file} cannot be read: {reason_of(error)}.') from error
        if labels.ndim != 2:
            raise ConfigurationError(
                f'The mask {file} has {labels.shape[2]} channels, but must have one: '
                'numbers of objects or classes.')
        return MaskedImage(
            str(self.images / f'{name}.jpg'), (labels > 0) & (labels != VOC_VOID),
            labels != VOC_VOID)

    def _without(self, mask: str) -> ConfigurationError:
        return ConfigurationError(f'The mask {mask} is missing in {self.masks}.')


def masks_of(annotations: str, images: Optional[str] = None,
             split: Optional[str] = None):
    """:class:`CocoMasks` of a ``.json`` file, :class:`VocMasks` of a folder."""
    if Path(annotations).is_dir():
        if images is not None:
            raise ConfigurationError(
                f"{annotations} is a folder, so in VOC's format, which has its own "
                f'images: leave out {images}.')
        return VocMasks(annotations, split)
    if split is not None:
        raise ConfigurationError(
            f"{annotations} is not a folder in VOC's format, so it has no lists of "
            f'images such as {split}.')
    if images is None:
        raise ConfigurationError(
            f'{annotations} is not a folder in VOC\'s format; for annotations in '
            'COCO\'s format, name the folder of the images as well.')
    return CocoMasks(annotations, images)


def sample_masks(masks, count: Optional[int] = None,
                 seed: int = 0) -> Iterator[MaskedImage]:
    """So many masked images of a data set at random; all in order by default.

    At random, because classes often take turns or stand in blocks.
    """
    indices: Sequence[int] = range(len(masks))
    if count is not None and count < len(masks):
        indices = random.Random(seed).sample(indices, count)
    return map(masks.read, indices)
