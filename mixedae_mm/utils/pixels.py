"""Pixels of any type as 8-bit RGB: ``(3, H, W)`` uint8.

All image files, PIL images, arrays and tensors are converted here, so that an image is
the same tensor in whichever form it comes. What has no agreed range is a ValueError,
whose message has no full stop, for a caller who puts it into a sentence.
"""
from typing import Optional

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

# Premultiplied colours, which Pillow converts to RGB only by way of these.
UNMULTIPLIED = {'La': 'LA', 'RGBa': 'RGBA'}


def rgb_of_pil(image: Image.Image) -> Tensor:
    """Convert a PIL image of any mode.

    The EXIF orientation is applied, an alpha channel dropped, a palette looked up, grey
    values are repeated; for more than 8 bits see :func:`to_8_bits`.
    """
    # Older versions of Pillow open a 16-bit grey PNG as 'I'.
    is_16_bit = image.mode == 'I' and image.format == 'PNG'
    image = ImageOps.exif_transpose(image)
    if is_16_bit:
        return rgb_of_array(np.asarray(image).astype(np.uint16))
    if image.mode.startswith('I') or image.mode == 'F':
        # Pillow's conversion to RGB would clip at 255, to almost white.
        return rgb_of_array(np.asarray(image))
    if image.mode in UNMULTIPLIED:
        image = image.convert(UNMULTIPLIED[image.mode])
    return rgb_of_array(np.array(image.convert('RGB')))


def rgb_of_array(pixels: np.ndarray, type_name: Optional[str] = None) -> Tensor:
    """Convert ``(H, W)`` or ``(H, W, C)``: grey, grey and alpha, RGB, RGB and alpha.

    Alpha is dropped. ``type_name`` is what the message calls the type of the pixels.
    """
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    if pixels.shape[2] in (2, 4):
        pixels = pixels[:, :, :-1]
    pixels = to_8_bits(pixels, type_name or str(pixels.dtype))
    pixels = np.require(pixels, requirements=['C', 'W'])  # what from_numpy takes
    return torch.from_numpy(pixels).permute(2, 0, 1).expand(3, -1, -1)  # (3, H, W)


def to_8_bits(values: np.ndarray, type_name: str) -> np.ndarray:
    """Bring pixel values, of any shape but not empty, to uint8 in 0..255.

    ==================  ====================================================
    uint8               as it is
    bool                0 and 255
    uint16              the high byte
    wider integers      as uint16, if the largest value needs 9 to 16 bits
    floating point      0..1 becomes 0..255, rounded
    ==================  ====================================================
    """
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * 255
    if values.dtype.kind == 'u' and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    if values.dtype.kind not in 'iuf':
        raise ValueError(f'pixels are real numbers, not of the type {type_name}')
    low, high = values.min().item(), values.max().item()
    if values.dtype.kind == 'f':
        if 0 <= low and high <= 1:
            return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
        raise ValueError(
            'floating-point pixels have no agreed range outside 0..1, but this '
            f'image ({type_name}) goes from {low:.3g} to {high:.3g}')
    if 0 <= low and 2**8 <= high < 2**16:
        return (values >> 8).astype(np.uint8)
    raise ValueError(
        'pixels are uint8 in 0..255, uint16, or floating point in 0..1; those of '
        f'the type {type_name}, here from {low} to {high}, have no agreed range')
