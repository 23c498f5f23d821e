"""Transforms that work on uint8 tensors."""
from .evaluation_crop import EvaluationCrop
from .load_image_tensor import LoadImageTensor
from .tensor_random_resized_crop import TensorRandomResizedCrop

__all__ = ['EvaluationCrop', 'LoadImageTensor', 'TensorRandomResizedCrop']
