"""Random resized crop of tensors."""
from typing import Sequence, Tuple

from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms.v2 import functional as F

from ...utils.checks import check_choice
from ...utils.errors import ConfigurationError
from ...utils.preprocessing import ImageSize, height_and_width


@TRANSFORMS.register_module()
class TensorRandomResizedCrop(BaseTransform):
    """torchvision's ``RandomResizedCrop`` on tensors, antialiased.

    The box is drawn by torchvision's own ``RandomResizedCrop.get_params``, from
    PyTorch's generator, and pixels come from torchvision's v2 ``resize``. mmpretrain's
    ``torchvision/RandomResizedCrop`` is v1: that converts the crop to float32 and back,
    which takes four times as long, and leaves ``img_shape`` as it was.

    **Required Keys:** img (torch.Tensor, uint8 or float32, (C, H, W))

    **Modified Keys:** img (of the same type, (C, *size)), img_shape

    **Added Keys:** crop_box (top, left, height, width), in pixels of the input

    Args:
        size (int | Sequence[int]): Output size, one number or (H, W).
        scale (Sequence[float]): Range of the crop's share of the area, in (0, 1]; the
            default is MAE's.
        ratio (Sequence[float]): Range of the crop's aspect ratio, width over height,
            above 0.
        interpolation (str): 'bicubic' (MAE's) or 'bilinear'.

    Raises:
        ConfigurationError: For a value that an argument does not allow.
    """

    def __init__(self,
                 size: ImageSize,
                 scale: Sequence[float] = (0.2, 1.0),
                 ratio: Sequence[float] = (3 / 4, 4 / 3),
                 interpolation: str = 'bicubic'):
        self.size = height_and_width(size)
        self.scale = _check_range('scale', scale, at_most=1)
        self.ratio = _check_range('ratio', ratio)
        check_choice('interpolation', interpolation, ('bicubic', 'bilinear'))
        self.interpolation = InterpolationMode(interpolation)

    def transform(self, results: dict) -> dict:
        image = results['img']
        box = RandomResizedCrop.get_params(image, list(self.scale), list(self.ratio))
        top, left, height, width = box
        crop = image[:, top:top + height, left:left + width]  # (3, h, w)
        # Resize copies a crop that is not contiguous. Decoders leave the channels
        # of a pixel side by side: a copy in that order is faster than its own.
        crop = crop.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        results['img'] = F.resize(
            crop, list(self.size), self.interpolation, antialias=True)
        results['img_shape'] = self.size
        results['crop_box'] = box
        return results

    def __repr__(self) -> str:
        return (f'{type(self).__name__}(size={self.size}, '
                f'scale={self.scale}, ratio={self.ratio}, '
                f"interpolation='{self.interpolation.value}')")


def _check_range(name: str, values, at_most=float('inf')) -> Tuple[float, float]:
    low, high = values if len(values) == 2 else (0, 0)
    if not 0 < low <= high <= at_most:
        allowed = '0 < low <= high' + ('' if at_most > 1 else ' <= 1')
        raise ConfigurationError(
            f'TensorRandomResizedCrop: {name} must be (low, high) with '
            f'{allowed}, got {values!r}.')
    return low, high
