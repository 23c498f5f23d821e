"""Measuring and picturing models without training them."""
from .attention_probe import (attention_probe, cls_attention_maps,
                              topk_sampling_accuracy)
from .figures import figure_to_array, figure_to_png
from .panels import MixingPanel, draw_mixing_panel, mixing_panel
from .probe_batch import MixedBatch, mix_for_probing, sample_images
from ..utils.undisturbed import evaluating, own_random_numbers

__all__ = [
    'MixedBatch', 'MixingPanel', 'attention_probe', 'cls_attention_maps',
    'draw_mixing_panel', 'evaluating', 'figure_to_array', 'figure_to_png',
    'sample_images', 'mix_for_probing', 'mixing_panel', 'own_random_numbers',
    'topk_sampling_accuracy'
]
