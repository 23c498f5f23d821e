"""Metrics must be possible with the number of classes."""
from typing import Iterable, Mapping

import torch

from ...utils.errors import ConfigurationError


def check_iou(metrics: Iterable, name: str) -> None:
    """Refuse names that mmseg's ``IoUMetric`` does not know.

    It says so itself, but only after the first evaluation.
    """
    for metric in metrics:
        compute = getattr(metric, 'total_area_to_metrics', None)
        areas = [torch.ones(1)] * 4
        try:
            if compute is not None:
                compute(*areas, metric.metrics)
        except KeyError as error:
            raise ConfigurationError(
                f'{name}: iou_metrics of {type(metric).__name__} is '
                f'{metric.metrics!r}, but must be some of mIoU, mDice and '
                'mFscore.') from error


def check_topk(metrics: Iterable, heads: Mapping[str, int], name: str) -> None:
    """Refuse the accuracy of the best k of fewer than k classes.

    ``metrics`` are those of an evaluator, or parts of a model that log it themselves.
    """
    if not heads:
        return
    num_classes = min(heads.values())
    for metric in metrics:
        given = getattr(metric, 'topk', (1, ))
        topk = (given, ) if isinstance(given, int) else given
        if not topk or not all(isinstance(k, int) and k >= 1 for k in topk):
            raise ConfigurationError(
                f'{name}: topk of {type(metric).__name__} is {topk}, but must be one '
                'or several integers of at least 1.')
        if max(topk) > num_classes:
            raise ConfigurationError(
                f'{name}: {type(metric).__name__} asks for the top-{max(topk)} '
                f'accuracy of {num_classes} classes; set its topk to at most '
                f'{num_classes}, such as topk=(1, ).')
