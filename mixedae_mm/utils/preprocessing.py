"""From a picture of any kind to the normalised tensor that a ViT takes."""
from pathlib import Path
from typing import Sequence, Tuple, Union

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as F

from .errors import ConfigurationError

ImageLike = Union[str, Path, Image.Image, np.ndarray, Tensor]


def resize_side(img_size: int) -> int:
    """Shorter side before the centre crop; 256 for 224, as is customary."""
    return round(img_size * 256 / 224)


def to_rgb_tensor(image: Union[Image.Image, np.ndarray, Tensor]) -> Tensor:
    """A picture in memory as a uint8 or float RGB tensor.

    Args:
        image: A PIL image of any mode; an array ``(H, W, 3)`` or ``(H, W)``;
            a tensor ``(3, H, W)`` or ``(1, H, W)``. Arrays and tensors are
            RGB or grey, uint8 in 0..255 or floating point in 0..1.

    Returns:
        Tensor: ``(3, H, W)``, uint8 or float32.

    Raises:
        ConfigurationError: For any other shape, type or range.
    """
    if isinstance(image, Image.Image):
        image = np.array(ImageOps.exif_transpose(image).convert('RGB'))
    given = 'tensor'
    if isinstance(image, np.ndarray):
        given = 'array'
        if image.ndim == 2:
            image = image[:, :, None]
        if image.ndim == 3:
            image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)
    if not isinstance(image, Tensor):
        raise ConfigurationError(
            f'{type(image).__name__} is no picture; give a PIL image, an array '
            '(H, W, 3), a tensor (3, H, W), or the path of a file or folder.')
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        wanted = '(H, W, 3)' if given == 'array' else '(3, H, W)'
        raise ConfigurationError(
            f'A picture as {given} has shape {wanted}, but this one has '
            f'{tuple(image.shape)} as channels, height, width.')
    image = image.expand(3, -1, -1)
    if image.dtype == torch.uint8:
        return image
    if not image.is_floating_point():
        raise ConfigurationError(
            f'A picture as {given} is uint8 in 0..255 or floating point in '
            f'0..1, but this one is {image.dtype}.')
    low, high = image.min().item(), image.max().item()
    if not (0 <= low and high <= 1):
        raise ConfigurationError(
            f'A floating-point picture lies in 0..1, but this {given} goes '
            f'from {low:.3g} to {high:.3g}; for normalised tensors call '
            'encoder.model directly.')
    return image.float()


class Preprocessing:
    """Resize the shorter side, cut out the centre, normalise.

    Args:
        img_size (tuple[int, int]): Height and width of the result.
        mean (Sequence[float]): Of the colour channels RGB, in 0..255.
        std (Sequence[float]): Likewise.
    """

    def __init__(self, img_size: Tuple[int, int], mean: Sequence[float],
                 std: Sequence[float]) -> None:
        self.img_size = tuple(img_size)
        self.mean = torch.tensor(mean).view(-1, 1, 1) / 255
        self.std = torch.tensor(std).view(-1, 1, 1) / 255

    def crop(self, image: Tensor) -> Tensor:
        """``(3, H, W)``, uint8 or float in 0..1, to ``(3, *img_size)``."""
        height, width = image.shape[-2:]
        wanted_height, wanted_width = self.img_size
        # The crop takes 224 of 256 pixels along the tighter side; the other is
        # rounded down, as torchvision and Hugging Face do.
        if wanted_height * width >= wanted_width * height:
            side = resize_side(wanted_height)
            size = [side, max(wanted_width, int(side * width / height))]
        else:
            side = resize_side(wanted_width)
            size = [max(wanted_height, int(side * height / width)), side]
        image = F.resize(
            image, size, InterpolationMode.BICUBIC, antialias=True)
        if image.is_floating_point():
            image = image.clamp(0, 1)  # bicubic overshoots
        return F.center_crop(image, [wanted_height, wanted_width])

    def normalize(self, images: Tensor) -> Tensor:
        """``(..., 3, H, W)``, uint8 or float in 0..1, to what the model takes."""
        scale = 255 if images.dtype == torch.uint8 else 1
        images = images.float() / scale
        return (images - self.mean.to(images.device)) / self.std.to(images.device)

    def __call__(self, image: Tensor) -> Tensor:
        """Crop and normalise one picture of :func:`to_rgb_tensor`."""
        return self.normalize(self.crop(image))
