"""Optimizer constructors."""
from .layer_decay_optim_constructor import LayerDecayOptimWrapperConstructor
from .merged_optim_constructor import MergedOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor', 'MergedOptimWrapperConstructor']
