"""Loading transforms, data sets of unlabelled images, and generated demo sets."""
from .decode import EXTENSIONS, UnreadableImageError, decode_rgb
from .labelled_objects import (PALETTE, SCENE_CLASSES, make_object_folder,
                               make_scene_folder)
from .load_image_tensor import LoadImageTensor
from .object_painter import OBJECT_CLASSES
from .photographs import make_photograph_folder
from .sample_seeding import (SampleIndex, SampleSeededDataset, SampleSeeding,
                             sample_generators)
from .tensor_random_resized_crop import TensorRandomResizedCrop
from .unlabelled_image_folder import UnlabelledImageFolder

__all__ = [
    'EXTENSIONS', 'LoadImageTensor', 'OBJECT_CLASSES', 'PALETTE', 'SCENE_CLASSES',
    'SampleIndex', 'SampleSeededDataset', 'SampleSeeding',
    'TensorRandomResizedCrop', 'UnlabelledImageFolder', 'UnreadableImageError',
    'decode_rgb', 'make_object_folder', 'make_photograph_folder',
    'make_scene_folder', 'sample_generators'
]
