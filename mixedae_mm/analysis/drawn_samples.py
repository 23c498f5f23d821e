"""Draw labels, masks and boxes over their image."""
from pathlib import Path
from typing import Any, Dict, Optional

import numpy as np
from mmengine.registry import VISUALIZERS

VISUALIZER = dict(mmpretrain='UniversalVisualizer', mmseg='SegLocalVisualizer',
                  mmdet='DetLocalVisualizer')


def draw(pixels: np.ndarray, sample: Any, scope: str, meta: dict,
         out: Optional[Path] = None, threshold: float = 0.3,
         truth: bool = False) -> np.ndarray:
    """Draw what a sample says over its image, by the visualizer of its toolbox.

    Args:
        pixels (np.ndarray): ``(H, W, 3)`` uint8, RGB.
        sample: A data sample of the toolbox.
        scope (str): ``'mmpretrain'``, ``'mmseg'`` or ``'mmdet'``.
        meta (dict): ``classes``, and ``palette`` if there is one.
        out (Path, optional): Where to write the picture.
        threshold (float): Least score of an object.
        truth (bool): Draw the annotation, not the prediction.

    Returns:
        np.ndarray: ``(H, W, 3)`` uint8, RGB.
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
