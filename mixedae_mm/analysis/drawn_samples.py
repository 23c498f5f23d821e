"""Draw labels, masks and boxes over their image."""
from pathlib import Path
from typing import Any, Dict, Optional, Sequence

import numpy as np
from mmengine.registry import VISUALIZERS
from torch import Tensor

from .loading import swapped
from .panels import as_rgb

VISUALIZER = dict(mmpretrain='UniversalVisualizer', mmseg='SegLocalVisualizer',
                  mmdet='DetLocalVisualizer')


def drawn_pixels(image: Tensor, preprocessor: Any,
                 channels: Optional[Sequence[int]] = None) -> np.ndarray:
    """An image of a data set, to be drawn on: ``(H, W, 3)`` uint8, RGB.

    It is ``(C, H, W)`` in the units of the preprocessor's mean; ``channels`` are those
    of :func:`.panels.shown_channels`.
    """
    images = swapped(image[None], preprocessor)
    if getattr(preprocessor, '_enable_normalize', True):
        images = (images.float() - preprocessor.mean) / preprocessor.std
    rgb = as_rgb(images, preprocessor, channels)[0]  # (3, H, W) in 0..1
    pixels = (255 * rgb).round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(pixels)  # OpenCV draws on no other


def draw(pixels: np.ndarray, sample: Any, scope: str, meta: dict,
         out: Optional[Path] = None, threshold: float = 0.3,
         truth: bool = False) -> np.ndarray:
    """Draw what a sample says over its image, by the visualizer of its toolbox.

    Pixels and result are ``(H, W, 3)`` uint8, RGB. ``meta`` has ``classes``, and
    ``palette`` if there is one; ``threshold`` is the least score of an object;
    ``truth`` draws the annotation, not the prediction.
    """
    visualizer = VISUALIZERS.build(dict(type=VISUALIZER[scope], name='predictions'))
    visualizer.dataset_meta = meta
    options: Dict[str, Any] = dict(draw_gt=truth, draw_pred=not truth,
                                   out_file=out and str(out))
    if scope == 'mmpretrain':
        visualizer.visualize_cls(pixels, sample, classes=meta['classes'], **options)
    else:
        if scope == 'mmdet':
            options['pred_score_thr'] = threshold
        visualizer.add_datasample('', pixels, sample, **options)
    return visualizer.get_image()
