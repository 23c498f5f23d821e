"""Metrics must be possible with the number of classes."""
from typing import Iterable, Mapping

import torch

from ...utils.errors import ConfigurationError


def check_iou(metrics: Iterable, name: str) -> None:
    """Refuse names that mmseg's ``IoUMetric`` does not know.

    It says so itself, but only after the first evaluation.

    Args:
        metrics (Iterable): Of an evaluator.
        name (str): What the config calls it.
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

    Args:
        metrics (Iterable): Of an evaluator, or parts of a model that have
            ``topk`` because they log this accuracy themselves.
        heads (Mapping[str, int]): Number of classes of each head.
        name (str): What the config calls the evaluator or part.
    """
    if not heads:
        return
    num_classes = min(heads.values())
    for metric in metrics:
        topk = getattr(metric, 'topk', (1, ))
        topk = (topk, ) if isinstance(topk, int) else topk
        if not topk or not all(isinstance(k, int) and k >= 1 for k in topk):
            raise ConfigurationError(
                f'{name}: topk of {type(metric).__name__} is {topk}, but must be one '
                'or several integers of at least 1.')
        largest = max(topk)
        if largest > num_classes:
            raise ConfigurationError(
                f'{name}: {type(metric).__name__} asks for the top-{largest} '
                f'accuracy of {num_classes} classes; set its topk to at most '
                f'{num_classes}, such as topk=(1, ).')
