"""Load an image of any number of channels into a tensor or an array."""
from typing import Optional

import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...utils.checks import check_count
from ..channels import decode_channels
from ..decode import MAX_PIXELS
from ..reading import read_file

MAX_OPENCV = 512  # channels that OpenCV resizes


@TRANSFORMS.register_module()
class LoadChannels(BaseTransform):
    """Read an image with ``channels`` channels into a tensor or an array.

    NumPy files and TIFF of 8 or 16 bits or floating point, and what Pillow reads; see
    :func:`~.channels.decode_channels`. The values are not scaled: ``mean`` and ``std``
    of the data preprocessor, one number per channel, are in the same units.

    **Required Keys:** img_path

    **Added Keys:** img (uint8 or float32: a tensor (C, H, W), or an array (H, W, C)),
    img_shape, ori_shape (both ``(H, W)``)

    Args:
        channels (int): As ``in_channels`` of the backbone. A file with another number
            cannot be used.
        as_array (bool): For the transforms of mmseg and mmdet, which take arrays and
            resize with OpenCV. Ours and torchvision's take tensors, the default.
        max_pixels, min_side, backend_args: As for :class:`.LoadImageTensor`.

    Raises:
        ConfigurationError: If there are more than 512 channels in an array, which
            OpenCV cannot resize.
        UnreadableImageError: If the file cannot be used; it names the file.
        OSError: If the file cannot be read.
    """

    def __init__(self,
                 channels: int,
                 as_array: bool = False,
                 max_pixels: int = MAX_PIXELS,
                 min_side: int = 8,
                 backend_args: Optional[dict] = None):
        check_count('channels', channels, 1, MAX_OPENCV if as_array else None)
        self.channels = channels
        self.as_array = as_array
        self.max_pixels = max_pixels
        self.min_side = min_side
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        data = read_file(path, self.backend_args)
        image = decode_channels(
            data, self.channels, path, self.max_pixels, self.min_side)
        results['img_shape'] = results['ori_shape'] = tuple(image.shape[1:])
        results['img'] = image
        if self.as_array:
            results['img'] = np.ascontiguousarray(image.permute(1, 2, 0).numpy())
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(channels={self.channels}, '
                f'as_array={self.as_array}, max_pixels={self.max_pixels}, '
                f'min_side={self.min_side}, backend_args={self.backend_args})')
