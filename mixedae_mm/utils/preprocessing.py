"""From an image of any kind to the normalised tensor that a ViT takes.

Everything that looks at a model on whole images prepares them here: one image has one
crop, whichever tool measures it.
"""
from pathlib import Path
from typing import Any, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from .checks import check_count
from .errors import ConfigurationError
from .messages import warn
from .pixels import rgb_of_array, rgb_of_pil

ImageLike = Union[str, Path, Image.Image, np.ndarray, Tensor]
ImageSize = Union[int, Sequence[int]]
# The shorter side is resized to this multiple of the crop: 256 pixels for 224.
MARGIN = 256 / 224
# The mean of |values| after normalisation is 0.8 for a normal distribution.
MAX_NORMALISED = 10


def resize_side(img_size: int, margin: float = MARGIN) -> int:
    """Pixels of the shorter side before the centre crop; 256 for 224."""
    return round(img_size * margin)


def height_and_width(img_size: ImageSize,
                     name: str = 'The size of the crop') -> Tuple[int, int]:
    """A size that is given as one number of pixels or as two.

    Raises:
        ConfigurationError: If it is neither, or not positive integers; it begins with
            ``name``.
    """
    sides: Sequence[Any] = (
        img_size if isinstance(img_size, (list, tuple)) else [img_size] * 2)
    if len(sides) != 2:
        raise ConfigurationError(
            f'{name} is {img_size!r}, but must be one or two numbers of pixels.')
    if isinstance(img_size, (list, tuple)):
        name = f'{name}, {img_size!r}, has a side that'
    return check_count(name, sides[0]), check_count(name, sides[1])


def evaluation_crop(image: Tensor, img_size: ImageSize, margin: float = MARGIN,
                    interpolation: InterpolationMode = InterpolationMode.BICUBIC
                    ) -> Tensor:
    """Resize an image and cut the centre out.

    Args:
        image (Tensor): ``(C, H, W)``: uint8, floating point, or a mask.
        img_size (int | tuple[int, int]): Height and width of the result.
        margin (float): The tighter side is resized to this multiple of the
            crop's, at least 1. 1 keeps as much of the image as possible.
        interpolation (InterpolationMode): Antialiased bicubic by default;
            ``NEAREST_EXACT`` for masks.

    Returns:
        Tensor: ``(C, *img_size)``, of the image's type.

    Raises:
        ConfigurationError: If ``img_size`` is neither a positive integer nor two, or
            ``margin`` is below 1.
    """
    wanted_height, wanted_width = height_and_width(img_size)
    if not 1 <= margin < float('inf'):
        raise ConfigurationError(f'margin is {margin}, but must be at least 1.')
    height, width = image.shape[-2:]
    # The other side is rounded down, as torchvision and Hugging Face do.
    if wanted_height * width >= wanted_width * height:
        side = resize_side(wanted_height, margin)
        size = [side, max(wanted_width, int(side * width / height))]
    else:
        side = resize_side(wanted_width, margin)
        size = [max(wanted_height, int(side * height / width)), side]
    bicubic = interpolation is InterpolationMode.BICUBIC
    resized = F.resize(image, size, interpolation, antialias=bicubic)
    if bicubic and image.is_floating_point():
        # Bicubic overshoots. Values beyond 0..1 are of images with other units.
        low, high = image.aminmax()
        resized = resized.clamp(low.clamp(max=0), high.clamp(min=1))
    return F.center_crop(resized, [wanted_height, wanted_width])


def to_rgb_tensor(image: Union[Image.Image, np.ndarray, Tensor]) -> Tensor:
    """An image in memory as the tensor that its file would be decoded to.

    Args:
        image: A PIL image of any mode; an array ``(H, W)`` or ``(H, W, C)``; a tensor
            ``(C, H, W)``. One channel is grey, three are RGB; a second or fourth one
            is alpha, which is dropped. For the types and ranges of values see
            :func:`~.pixels.to_8_bits`.

    Returns:
        Tensor: ``(3, H, W)``, uint8.

    Raises:
        ConfigurationError: For any other shape, type or range.
    """
    if not isinstance(image, (Image.Image, np.ndarray, Tensor)):
        raise ConfigurationError(
            f'{type(image).__name__} is not an image; give a PIL image, an array '
            '(H, W, 3), a tensor (3, H, W), or the path of a file or folder.')
    if not isinstance(image, Image.Image):
        _check_shape(image)
    try:
        if isinstance(image, Image.Image):
            return rgb_of_pil(image)
        if isinstance(image, np.ndarray):
            return rgb_of_array(image)
        values = image.detach().cpu()
        if values.is_floating_point():
            values = values.float()  # NumPy has no bfloat16
        pixels = values.numpy().transpose(1, 2, 0)  # (H, W, C)
        return rgb_of_array(pixels, str(image.dtype)).to(image.device)
    except (ValueError, OSError) as error:  # OSError: a lazily opened file
        raise ConfigurationError(
            f'This image ({type(image).__name__}) cannot be used: {error}; for '
            'normalised tensors call encoder.model directly.') from error


def _check_shape(image: Union[np.ndarray, Tensor]) -> None:
    is_array, shape = isinstance(image, np.ndarray), tuple(image.shape)
    channels = 0
    if len(shape) == 3:
        channels = shape[-1 if is_array else 0]
    elif len(shape) == 2 and is_array:
        channels = 1
    if not 1 <= channels <= 4 or 0 in shape:
        raise ConfigurationError(
            f'An image as {"array" if is_array else "tensor"} has shape '
            f'{"(H, W, 3)" if is_array else "(3, H, W)"}, grey and alpha channels '
            f'are allowed too, but this one has {shape}.')


def channels_to_read(channels: int, mean: Any = None) -> Optional[int]:
    """How many channels files are read with, as they are; None for RGB of 8 bits.

    Three channels are RGB, unless one of their means is above 255.
    """
    is_rgb = channels == 3 and (mean is None or max(mean) <= 255)
    return None if is_rgb else channels


def warn_of_range(images: torch.Tensor, mean: torch.Tensor, std: torch.Tensor,
                  what: str = 'The images have') -> bool:
    """Warn if mean and std are of other units than images; say whether they are.

    Such as 16-bit images under the statistics of 8-bit ones: normalised values are of
    the order of 1, and these are hundreds. ``images`` are ``(..., C, H, W)``, ``mean``
    and ``std`` ``(C, 1, 1)``; ``what`` begins the sentence.
    """
    mean, std = mean.to(images.device), std.to(images.device)
    if ((images.float() - mean) / std).abs().mean() <= MAX_NORMALISED:
        return False
    warn(
        f'{what} values from {images.min().item():.6g} to {images.max().item():.6g}, '
        f'but mean ({mean.min().item():.6g} to {mean.max().item():.6g}) and std '
        f'({std.min().item():.6g} to {std.max().item():.6g}) are of another range; '
        'give those of the images.')
    return True


class Preprocessing:
    """Resize, cut the centre out (:func:`evaluation_crop`), normalise.

    The size is height and width; mean and std are of each channel, for RGB in 0..255.
    """

    def __init__(self, img_size: Tuple[int, int], mean: Sequence[float],
                 std: Sequence[float]) -> None:
        self.img_size = tuple(img_size)
        self.mean = torch.tensor(mean).view(-1, 1, 1) / 255
        self.std = torch.tensor(std).view(-1, 1, 1) / 255

    def crop(self, image: Tensor) -> Tensor:
        """``(3, H, W)``, uint8 or float in 0..1, to ``(3, *img_size)``."""
        return evaluation_crop(image, self.img_size)

    def normalize(self, images: Tensor) -> Tensor:
        """``(..., 3, H, W)``, uint8 or float in 0..1, to what the model takes."""
        scale = 255 if images.dtype == torch.uint8 else 1
        images = images.float() / scale
        return (images - self.mean.to(images.device)) / self.std.to(images.device)

    def __call__(self, image: Tensor) -> Tensor:
        """Crop and normalise one image of :func:`to_rgb_tensor`."""
        return self.normalize(self.crop(image))
