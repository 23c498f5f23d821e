"""Metrics of the transfer protocols that the toolboxes lack."""
from .eleven_point_map import ElevenPointMAP

__all__ = ['ElevenPointMAP']
