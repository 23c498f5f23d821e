"""Load an image of any number of channels into a tensor or an array."""
from typing import Any

from mmengine.registry import TRANSFORMS
from torch import Tensor

from ...utils.checks import check_count
from ..channels import decode_channels
from .load_image_tensor import LoadImageTensor

MAX_OPENCV = 512  # channels that OpenCV resizes


@TRANSFORMS.register_module()
class LoadChannels(LoadImageTensor):
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
        **kwargs: Those of :class:`.LoadImageTensor`.

    Raises:
        ConfigurationError: If ``channels`` is below 1, or above 512 in an array, which
            OpenCV cannot resize.
        UnreadableImageError: If the file cannot be used; it names the file.
        OSError: If the file cannot be read.
    """

    def __init__(self, channels: int, as_array: bool = False, **kwargs: Any) -> None:
        check_count('channels', channels, 1, MAX_OPENCV if as_array else None)
        super().__init__(**kwargs)
        self.channels = channels
        self.as_array = as_array

    def transform(self, results: dict) -> dict:
        results = super().transform(results)
        if self.as_array:
            results['img'] = results['img'].permute(1, 2, 0).contiguous().numpy()
        return results

    def decode(self, data: bytes, path: str) -> Tensor:
        """The content of a file as a tensor ``(channels, H, W)``, uint8 or float32."""
        return decode_channels(
            data, self.channels, path, self.max_pixels, self.min_side)

    def __repr__(self) -> str:
        return super().__repr__().replace(
            '(', f'(channels={self.channels}, as_array={self.as_array}, ', 1)
