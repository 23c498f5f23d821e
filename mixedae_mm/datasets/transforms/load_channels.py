"""Load an image of any number of channels into a tensor."""
from typing import Optional

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...utils.checks import check_count
from ..channels import decode_channels
from ..decode import MAX_PIXELS
from ..reading import read_file


@TRANSFORMS.register_module()
class LoadChannels(BaseTransform):
    """Read an image with ``channels`` channels into a tensor (C, H, W).

    NumPy files and TIFF of 8 or 16 bits or floating point, and what Pillow reads; see
    :func:`~.channels.decode_channels`. The values are not scaled: ``mean`` and ``std``
    of the data preprocessor, one number per channel, are in the same units.

    **Required Keys:** img_path

    **Added Keys:** img (uint8 or float32), img_shape, ori_shape (both ``(H, W)``)

    Args:
        channels (int): As ``in_channels`` of the backbone. A file with another number
            cannot be used.
        max_pixels, min_side, backend_args: As for :class:`.LoadImageTensor`.

    Raises:
        UnreadableImageError: If the file cannot be used; it names the file.
        OSError: If the file cannot be read.
    """

    def __init__(self,
                 channels: int,
                 max_pixels: int = MAX_PIXELS,
                 min_side: int = 8,
                 backend_args: Optional[dict] = None):
        check_count('channels', channels)
        self.channels = channels
        self.max_pixels = max_pixels
        self.min_side = min_side
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        data = read_file(path, self.backend_args)
        image = decode_channels(
            data, self.channels, path, self.max_pixels, self.min_side)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = tuple(image.shape[1:])
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(channels={self.channels}, '
                f'max_pixels={self.max_pixels}, min_side={self.min_side}, '
                f'backend_args={self.backend_args})')
