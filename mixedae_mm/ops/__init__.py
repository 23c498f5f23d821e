"""Homologous attention, Eq. 6 of the MixedAE paper."""
from .attention import homologous_attention
from .reference import topk_mask

__all__ = ['homologous_attention', 'topk_mask']
