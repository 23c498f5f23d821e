"""Measuring and picturing models without training them.

The names below are imported at their first use, so that a hook that only measures
does not import matplotlib.
"""
import importlib

_MODULES = {
    'attention_probe': 'cls_attention_maps topk_sampling_accuracy',
    'figures': 'figure_to_array figure_to_png',
    'panels': 'MixingPanel draw_mixing_panel mixing_panel',
    'probe_batch': 'MixedBatch mix_for_probing sample_images',
    '..utils.random': 'own_random_numbers',
    '..utils.undisturbed': 'evaluating',
}
_MODULE_OF = {name: module for module, names in _MODULES.items()
              for name in names.split()}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    module = _MODULE_OF[name]
    return getattr(importlib.import_module(
        module if module.startswith('.') else f'.{module}', __name__), name)
