"""Measuring and picturing models without training them."""
from ..utils.random import own_random_numbers
from ..utils.undisturbed import evaluating
from .attention_probe import cls_attention_maps, topk_sampling_accuracy
from .figures import figure_to_array, figure_to_png
from .panels import MixingPanel, draw_mixing_panel, mixing_panel
from .probe_batch import MixedBatch, mix_for_probing, sample_images

__all__ = [
    'MixedBatch', 'MixingPanel', 'cls_attention_maps', 'draw_mixing_panel',
    'evaluating', 'figure_to_array', 'figure_to_png', 'mix_for_probing',
    'mixing_panel', 'own_random_numbers', 'sample_images', 'topk_sampling_accuracy'
]
