"""Mean average precision as Pascal VOC 2007 defined it."""
from typing import Optional

import torch
from mmengine.registry import METRICS
from mmpretrain.evaluation import VOCAveragePrecision
from torch import Tensor


@METRICS.register_module()
class ElevenPointMAP(VOCAveragePrecision):
    """Precision averaged over eleven levels of recall, then over classes.

    At each recall of 0, 0.1, ..., 1 the highest precision at that recall or a higher
    one is taken (Everingham et al., 2010, Sec. 4.2). mmpretrain's ``AveragePrecision``
    averages over all positives instead, which gives other numbers. Images in which a
    class is only marked difficult are left out for that class. Arguments are those of
    ``VOCAveragePrecision``: with ``average=None`` each class is reported, as
    ``AP_classwise``.
    """
    default_prefix = '11-point'

    @staticmethod
    def calculate(pred: Tensor,
                  target: Tensor,
                  average: Optional[str] = 'macro') -> Tensor:
        """Average precision in percent.

        Args:
            pred (Tensor): Scores ``(N, classes)``.
            target (Tensor): ``(N, classes)``: 1 where the class is in the image, 0
                where not, -1 where the image does not count.
            average (str, optional): ``'macro'``, the mean over classes, or None.

        Returns:
            Tensor: float64 scalar, or ``(classes, )`` for None.
        """
        precisions = torch.stack([
            _eleven_point_precision(scores[truth >= 0], truth[truth >= 0])
            for scores, truth in zip(pred.T, target.T)
        ]) * 100
        return precisions.mean() if average == 'macro' else precisions


def _eleven_point_precision(scores: Tensor, truth: Tensor) -> Tensor:
    found = truth[scores.argsort(descending=True)].double().cumsum(0)
    if len(found) == 0 or found[-1] == 0:
        return torch.zeros((), dtype=torch.double)  # nothing to find
    precision = found / torch.arange(1, len(found) + 1)
    # Recall in tenths: t / 10 is not exact in binary numbers, t is.
    tenths = 10 * found / found[-1]
    return torch.stack([
        precision[tenths >= t - 1e-9].max() for t in range(11)
    ]).mean()
