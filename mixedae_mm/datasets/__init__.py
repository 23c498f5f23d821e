"""Loading: decoding, transforms, sample seeding, and folders of unlabelled images."""
from .decode import EXTENSIONS, UnreadableImageError, decode_rgb
from .folder_index import index_folder
from .sample_seeding import (SampleIndex, SampleSeededDataset, SampleSeeding,
                             sample_generators)
from .transforms import LoadChannels, LoadImageTensor, TensorRandomResizedCrop
from .unlabelled_image_folder import UnlabelledImageFolder

__all__ = [
    'EXTENSIONS', 'LoadChannels', 'LoadImageTensor', 'SampleIndex',
    'SampleSeededDataset', 'SampleSeeding', 'TensorRandomResizedCrop',
    'UnlabelledImageFolder', 'UnreadableImageError', 'decode_rgb', 'index_folder',
    'sample_generators'
]
