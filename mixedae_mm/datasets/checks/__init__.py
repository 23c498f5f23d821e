"""Checks of data sets and metrics before the first step.

One module per kind of check. Each function checks one thing and raises
:class:`~mixedae_mm.utils.errors.ConfigurationError`, one sentence with the place,
the value, and what is allowed. :class:`mixedae_mm.engine.DataCheckHook` calls them.

``dataset`` is one of any toolbox, in any wrappers; ``name`` says in sentences what the
config calls it, its loader or a metric; ``heads`` are parts of the model, with the
number of classes that each predicts.
"""
from .batches import check_batches
from .class_names import (check_folder_names, check_label_range,
                          check_num_classes, check_positions, check_same_classes)
from .coco import check_coco, check_coco_metric
from .empty import check_left_out, check_not_empty, explain_failure
from .metrics import check_iou, check_topk
from .samples import check_samples
from .walking import declared_names

__all__ = [
    'check_batches', 'check_coco', 'check_coco_metric', 'check_folder_names',
    'check_iou', 'check_label_range', 'check_left_out', 'check_not_empty',
    'check_num_classes', 'check_positions', 'check_same_classes', 'check_samples',
    'check_topk', 'declared_names', 'explain_failure'
]
