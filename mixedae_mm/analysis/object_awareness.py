"""How well attention separates objects from their background (Fig. 5)."""
from typing import Callable, Dict, Iterable, List, Mapping, NamedTuple

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode

from ..datasets import LoadImageTensor
from ..utils.errors import ConfigurationError
from ..utils.optional import require
from ..utils.preprocessing import ImageSize, evaluation_crop
from ..utils.undisturbed import evaluating
from .attention_probe import cls_attention_maps
from .loading import normalised_for
from .object_masks import MaskedImage

CENTRE = 'centre of the image'  # the name of a map that knows only the centre
# Thresholds tried for all images alike, as shares of a map's largest value.
SHARED_THRESHOLDS = np.linspace(0, 1, 101)


class ObjectScore(NamedTuple):
    """Agreement of maps with masks, means over images, all in [0, 1].

    Attributes:
        average_precision (float): Of pixels ranked by the map. Chance is the
            objects' share of the image.
        iou (float): Intersection over union at the best threshold of each
            image.
        iou_shared (float): The same with one threshold for all images, the
            best one, as a share of each map's largest value.
        object_share (float): Of the pixels: chance level of the first, and
            the IoU of calling everything an object.
        num_images (int): Scored.
    """
    average_precision: float
    iou: float
    iou_shared: float
    object_share: float
    num_images: int


class ScoredImage(NamedTuple):
    """An image as the models saw it, with its mask and the models' maps."""
    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool
    counts: np.ndarray  # (H, W) bool
    maps: Dict[str, np.ndarray]  # name -> (rows, columns)


def best_iou(values: np.ndarray, mask: np.ndarray) -> float:
    """Largest intersection over union of ``values >= threshold`` and a mask.

    Args:
        values (np.ndarray): ``(N, )`` real.
        mask (np.ndarray): ``(N, )`` bool, at least one True.
    """
    order = np.argsort(-values, kind='stable')
    values, mask = values[order], mask[order]
    chosen = np.arange(1, len(values) + 1)
    hits = mask.cumsum()
    iou = hits / (chosen + mask.sum() - hits)
    # Equal values fall on the same side of every threshold.
    last_of_equals = np.append(values[1:] != values[:-1], True)
    return float(iou[last_of_equals].max())


def map_to_pixels(attention: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map of patches at pixel resolution, linear between patch centres."""
    values = torch.as_tensor(attention, dtype=torch.float64)[None, None]
    return F.interpolate(
        values, (height, width), mode='bilinear')[0, 0].numpy()


def object_score(images: Iterable[ScoredImage],
                 map_of: Callable[[ScoredImage], np.ndarray]) -> ObjectScore:
    """Score one map per image.

    Args:
        images (Iterable[ScoredImage]): With masks.
        map_of (Callable): Gives an image's map, ``(rows, columns)``.

    Returns:
        ObjectScore: Means over images.

    Raises:
        ConfigurationError: If no image has both object and background.
    """
    average_precision_score = require(
        'sklearn.metrics', 'scikit-learn', 'The average precision'
    ).average_precision_score
    precisions, ious, shared, shares = [], [], [], []
    for entry in images:
        mask = entry.mask[entry.counts]
        if mask.all() or not mask.any():
            continue  # nothing to separate
        values = map_to_pixels(map_of(entry), *entry.mask.shape)[entry.counts]
        precisions.append(average_precision_score(mask, values))
        ious.append(best_iou(values, mask))
        shared.append(_ious(values / max(values.max(), 1e-12), mask))
        shares.append(mask.mean())
    if not ious:
        raise ConfigurationError(
            'No image has both object and background within the crop that the '
            'model sees.')
    return ObjectScore(
        float(np.mean(precisions)), float(np.mean(ious)),
        float(np.mean(shared, 0).max()), float(np.mean(shares)), len(ious))


def _ious(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """IoU at each of :data:`SHARED_THRESHOLDS`."""
    chosen = values[None] >= SHARED_THRESHOLDS[:, None]
    hits = (chosen & mask).sum(1)
    return hits / (chosen.sum(1) + mask.sum() - hits)


def attention_on_objects(models: Mapping[str, BaseModel],
                         masked: Iterable[MaskedImage],
                         size: ImageSize,
                         batch_size: int = 64) -> List[ScoredImage]:
    """CLS attention of models on images with masks.

    Args:
        models (Mapping[str, BaseModel]): Name -> model with ``backbone`` and
            ``data_preprocessor``.
        masked (Iterable[MaskedImage]): The images.
        size (int | tuple[int, int]): Height and width of the crop, see
            :func:`~mixedae_mm.utils.preprocessing.evaluation_crop`; that of
            the masks is the same.
        batch_size (int): Images per batch.

    Returns:
        list[ScoredImage]: In the order of the images.
    """
    load = LoadImageTensor(min_side=1)
    entries: List[ScoredImage] = []
    crops: List[Tensor] = []

    def add_maps() -> None:
        inputs = torch.stack(crops)
        for name, model in models.items():
            with evaluating(model):
                maps = cls_attention_maps(
                    model.backbone, normalised_for(model, inputs)).cpu()
            for entry, values in zip(entries[-len(crops):], maps.numpy()):
                entry.maps[name] = values
        crops.clear()

    for item in masked:
        image = load(dict(img_path=item.path))['img']
        if image.shape[1:] != item.objects.shape:
            raise ConfigurationError(
                f'{item.path} has {image.shape[1]} x {image.shape[2]} pixels, '
                f'but its mask {item.objects.shape[0]} x '
                f'{item.objects.shape[1]}.')
        crop = evaluation_crop(image, size)
        masks = evaluation_crop(
            torch.from_numpy(np.stack([item.objects, item.counts])), size,
            interpolation=InterpolationMode.NEAREST_EXACT).numpy()
        crops.append(crop)
        entries.append(
            ScoredImage(crop.permute(1, 2, 0).numpy(), masks[0], masks[1], {}))
        if len(crops) == batch_size:
            add_maps()
    if crops:
        add_maps()
    return entries


def score_models(entries: List[ScoredImage]) -> Dict[str, ObjectScore]:
    """Scores of every model's maps, and of a map that knows only the centre.

    Objects are often in the middle; a map must beat the second to have seen
    anything.
    """
    if not entries:
        raise ConfigurationError('There is no image with a mask to score.')

    def map_of(name: str) -> Callable[[ScoredImage], np.ndarray]:
        return lambda entry: entry.maps[name]

    scores = {name: object_score(entries, map_of(name)) for name in entries[0].maps}
    grid = next(iter(entries[0].maps.values())).shape
    scores[CENTRE] = object_score(
        entries, lambda entry: centre_map(*grid))
    return scores


def centre_map(rows: int, columns: int) -> np.ndarray:
    """A map that falls off from the centre, whatever the image shows."""
    y = (np.arange(rows) + 0.5) / rows - 0.5
    x = (np.arange(columns) + 0.5) / columns - 0.5
    return np.exp(-8 * (y[:, None]**2 + x[None]**2))
