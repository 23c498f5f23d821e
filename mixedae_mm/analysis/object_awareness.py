"""How well attention separates objects from their background (Fig. 5)."""
from itertools import islice
from typing import Dict, Iterable, List, Mapping, NamedTuple, Tuple

import numpy as np
import torch
from mmengine.model import BaseModel
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode

from ..datasets import LoadImageTensor
from ..utils.errors import ConfigurationError
from ..utils.messages import reason_of
from ..utils.optional import require
from ..utils.preprocessing import ImageSize, evaluation_crop
from ..utils.undisturbed import evaluating
from .attention_probe import cls_attention_maps
from .loading import common_channels, normalised_for
from .object_masks import MaskedImage

CENTRE = 'centre of the image'  # the name of a map that knows only the centre
# Thresholds tried for all images alike, as shares of a map's largest value.
SHARED_THRESHOLDS = np.linspace(0, 1, 101)


class ObjectScore(NamedTuple):
    """Agreement of maps with masks, means over images, all in [0, 1]."""
    average_precision: float  # of pixels ranked by the map; chance is object_share
    iou: float  # intersection over union at the best threshold of each image
    # With one threshold for all images, the best one, as a share of each map's maximum.
    iou_shared: float
    object_share: float  # of the pixels; also the IoU of calling everything an object
    num_images: int  # scored


class ScoredImage(NamedTuple):
    """An image as the models saw it, with its mask and the models' maps."""
    image: np.ndarray  # (H, W, 3) uint8
    mask: np.ndarray  # (H, W) bool
    counts: np.ndarray  # (H, W) bool
    maps: Dict[str, np.ndarray]  # name -> (rows, columns)


def best_iou(values: np.ndarray, mask: np.ndarray) -> float:
    """Largest intersection over union of ``values >= threshold`` and a mask.

    Both are ``(N, )``; the mask is bool, at least once True.
    """
    precision, recall, _ = _metrics().precision_recall_curve(mask, values)
    # TP / (TP + FP + FN), as 1 / precision is (TP + FP) / TP and 1 / recall is
    # (TP + FN) / TP.
    with np.errstate(divide='ignore'):  # without a hit, 1 / 0 is infinity and IoU 0
        return float(np.max(1 / (1 / precision + 1 / recall - 1)))


def _metrics():
    return require('sklearn.metrics', 'scikit-learn', 'The average precision')


def map_to_pixels(attention: np.ndarray, height: int, width: int) -> np.ndarray:
    """A map of patches at pixel resolution, linear between patch centres."""
    values = torch.as_tensor(attention, dtype=torch.float64)[None, None]
    return F.interpolate(
        values, (height, width), mode='bilinear')[0, 0].numpy()


def object_score(images: Iterable[ScoredImage],
                 maps: Iterable[np.ndarray]) -> ObjectScore:
    """Score one map, ``(rows, columns)``, per image.

    Raises:
        ConfigurationError: If no image has both object and background.
    """
    precisions, ious, shared, shares = [], [], [], []
    for entry, attention in zip(images, maps):
        mask = entry.mask[entry.counts]
        if mask.all() or not mask.any():
            continue  # nothing to separate
        values = map_to_pixels(attention, *entry.mask.shape)[entry.counts]
        precisions.append(_metrics().average_precision_score(mask, values))
        ious.append(best_iou(values, mask))
        chosen = values / max(values.max(), 1e-12) >= SHARED_THRESHOLDS[:, None]
        shared.append((chosen & mask).sum(1) / (chosen | mask).sum(1))
        shares.append(mask.mean())
    if not ious:
        raise ConfigurationError(
            'No image has both object and background within the crop that the '
            'model sees.')
    return ObjectScore(
        float(np.mean(precisions)), float(np.mean(ious)),
        float(np.mean(shared, 0).max()), float(np.mean(shares)), len(ious))


def attention_on_objects(models: Mapping[str, BaseModel],
                         masked: Iterable[MaskedImage], size: ImageSize,
                         batch_size: int = 64) -> List[ScoredImage]:
    """CLS attention of models, by name, on images with masks, in their order.

    Images and masks are cut out to ``size`` by
    :func:`~mixedae_mm.utils.preprocessing.evaluation_crop`.

    Raises:
        ConfigurationError: If the models do not take RGB, or an image cannot be read
            or is not as large as its mask.
    """
    channels = common_channels(models)
    if channels is not None:
        raise ConfigurationError(
            'Attention is compared with objects on RGB images, but the models take '
            f'images of {channels} channels as they are.')
    masked, entries = iter(masked), []
    while group := [_cropped(item, size) for item in islice(masked, batch_size)]:
        inputs = torch.stack([crop for crop, _ in group])
        maps = {}
        for name, model in models.items():
            with evaluating(model):
                maps[name] = cls_attention_maps(
                    model.backbone, normalised_for(model, inputs)).cpu().numpy()
        entries += [
            ScoredImage(crop.permute(1, 2, 0).numpy(), mask, counts,
                        {name: values[i] for name, values in maps.items()})
            for i, (crop, (mask, counts)) in enumerate(group)]
    return entries


def _cropped(item: MaskedImage, size: ImageSize) -> Tuple[Tensor, np.ndarray]:
    """An image ``(3, *size)`` uint8, and ``objects`` and ``counts``: ``(2, *size)``."""
    try:
        image = LoadImageTensor(min_side=1)(dict(img_path=item.path))['img']
    except OSError as error:
        raise ConfigurationError(
            f'The image {item.path} of a mask cannot be read: '
            f'{reason_of(error)}.') from error
    if image.shape[1:] != item.objects.shape:
        raise ConfigurationError(
            f'{item.path} has {image.shape[1]} x {image.shape[2]} pixels, '
            f'but its mask {item.objects.shape[0]} x {item.objects.shape[1]}.')
    masks = evaluation_crop(
        torch.from_numpy(np.stack([item.objects, item.counts])), size,
        interpolation=InterpolationMode.NEAREST_EXACT)
    return evaluation_crop(image, size), masks.numpy()


def score_models(entries: List[ScoredImage]) -> Dict[str, ObjectScore]:
    """Scores of every model's maps, and of a map that knows only the centre.

    Objects are often in the middle; a map must beat the second to have seen
    anything.
    """
    if not entries:
        raise ConfigurationError('There is no image with a mask to score.')
    maps_of = {name: [entry.maps[name] for entry in entries]
               for name in entries[0].maps}
    grid = next(iter(maps_of.values()))[0].shape
    maps_of[CENTRE] = [centre_map(*grid)] * len(entries)
    return {name: object_score(entries, maps) for name, maps in maps_of.items()}


def centre_map(rows: int, columns: int) -> np.ndarray:
    """A map that falls off from the centre, whatever the image shows."""
    y = (np.arange(rows) + 0.5) / rows - 0.5
    x = (np.arange(columns) + 0.5) / columns - 0.5
    return np.exp(-8 * (y[:, None]**2 + x[None]**2))
