"""Transforms that work on tensors."""
from .evaluation_crop import EvaluationCrop
from .load_channels import LoadChannels
from .load_image_tensor import LoadImageTensor
from .tensor_random_resized_crop import TensorRandomResizedCrop

__all__ = ['EvaluationCrop', 'LoadChannels', 'LoadImageTensor',
           'TensorRandomResizedCrop']
