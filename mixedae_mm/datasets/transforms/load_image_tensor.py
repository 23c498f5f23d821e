"""Load an image file into a uint8 RGB tensor."""
from typing import Optional

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from torch import Tensor

from ..decode import MAX_PIXELS, decode_rgb
from ..reading import read_file


@TRANSFORMS.register_module()
class LoadImageTensor(BaseTransform):
    """Read and decode an image into a uint8 RGB tensor (3, H, W).

    The fast counterpart of ``LoadImageFromFile`` for pipelines of tensors. The result
    is Pillow's, see :func:`~.decode.decode_rgb` for formats and limits. Channels are
    RGB: the data preprocessor must not swap them.

    **Required Keys:** img_path

    **Added Keys:** img, img_shape, ori_shape (both ``(H, W)``, after the EXIF
    orientation is applied)

    Args:
        max_pixels (int): Larger images are refused. Defaults to Pillow's
            limit against decompression bombs, 89 million.
        min_side (int): Images whose shorter side has fewer pixels are refused: sets
            from the web have many tracking pixels and thin strips.
        backend_args (dict, optional): Where files are read from, as in
            :func:`mmengine.fileio.get`. Defaults to the local disk.

    Raises:
        UnreadableImageError: If the file cannot be used; it names the file.
        OSError: If it cannot be read, for passing errors of a network after three
            tries.
    """

    def __init__(self,
                 max_pixels: int = MAX_PIXELS,
                 min_side: int = 8,
                 backend_args: Optional[dict] = None):
        self.max_pixels = max_pixels
        self.min_side = min_side
        self.backend_args = backend_args

    def transform(self, results: dict) -> dict:
        path = results['img_path']
        image = self.decode(read_file(path, self.backend_args), path)  # (C, H, W)
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = tuple(image.shape[1:])
        return results

    def decode(self, data: bytes, path: str) -> Tensor:
        """The content of a file as a tensor ``(C, H, W)``."""
        return decode_rgb(data, path, self.max_pixels, self.min_side)

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(max_pixels={self.max_pixels}, '
                f'min_side={self.min_side}, backend_args={self.backend_args})')
