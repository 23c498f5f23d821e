"""From the bytes of an image file to a tensor of any number of channels.

Satellite images have 4, 10 or 13 bands, microscopes and scanners one channel of 16
bits. Their values stay as they are: nothing is turned into RGB or cut to 8 bits.
"""
import io
from math import prod
from typing import Optional, Sequence, Tuple

import numpy as np
import torch
from PIL import ImageOps

from ..utils.optional import require
from .decode import (EXTENSIONS, MAX_PIXELS, Buffer, check_size, naming, opened,
                     unreadable)

NPY = b'\x93NUMPY'
# Classic TIFF and BigTIFF, in both orders of bytes.
TIFF = (b'II*\0', b'MM\0*', b'II+\0', b'MM\0+')
TYPES = ('uint8', 'uint16', 'int16', 'float16', 'float32', 'float64')
# `extensions` of a data set of such files.
CHANNEL_EXTENSIONS = ('.npy', '.tif', '.tiff')


def extensions_of(channels: Optional[int]) -> Tuple[str, ...]:
    """Which files of a folder are images of so many channels, None for RGB."""
    return EXTENSIONS if channels is None else tuple(
        dict.fromkeys(EXTENSIONS + CHANNEL_EXTENSIONS))


def loading_step(channels: Optional[int]) -> dict:
    """The step of a pipeline that reads images of so many channels, None for RGB."""
    if channels is None:
        return dict(type='LoadImageTensor', min_side=1)
    return dict(type='LoadChannels', channels=channels, min_side=1)


def decode_channels(data: Buffer, channels: int, name: str = 'image',
                    max_pixels: int = MAX_PIXELS, min_side: int = 1) -> torch.Tensor:
    """Decode a NumPy file, a TIFF or another image file, all its channels as they are.

    Channels come first or last; where both sides have ``channels`` entries, they come
    last. TIFF goes through ``tifffile`` and stays as it lies in the file; other formats
    go through Pillow and are turned as their EXIF orientation says. Arguments are those
    of :func:`~.decode.decode_rgb`; ``channels`` is how many the image must have.

    Returns:
        torch.Tensor: ``(channels, H, W)``: uint8 as it is, other types as float32.

    Raises:
        UnreadableImageError: If the file is damaged or too large or small, has other
            channels or another type, or a pixel is not finite.
    """
    with naming(name):
        pixels = _read(bytes(data), channels, name, max_pixels)
    return tensor_of_channels(pixels, channels, name, max_pixels, min_side)


def tensor_of_channels(pixels: np.ndarray, channels: int, name: str = 'array',
                       max_pixels: int = MAX_PIXELS, min_side: int = 1) -> torch.Tensor:
    """Check an array and bring it to the tensor of :func:`decode_channels`."""
    pixels = _channels_first(pixels, channels, name)
    height, width = pixels.shape[1:]
    check_size(name, width, height, max_pixels, min_side)
    if pixels.dtype.name not in TYPES:
        raise unreadable(
            name, f'its pixels are {pixels.dtype}, allowed are {", ".join(TYPES)}')
    if pixels.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(pixels))
    finite = np.isfinite(pixels)
    if not finite.all():
        channel, row, column = np.argwhere(~finite)[0]
        raise unreadable(
            name, f'the pixel in channel {channel}, row {row}, column {column} is '
            f'{pixels[channel, row, column]}, all must be finite')
    return torch.from_numpy(np.ascontiguousarray(pixels, dtype=np.float32))


def _read(data: bytes, channels: int, name: str, max_pixels: int) -> np.ndarray:
    # Sizes are read from the header, before any memory is taken.
    if data.startswith(NPY):
        header = io.BytesIO(data)
        is_first = np.lib.format.read_magic(header) == (1, 0)
        shape, _, _ = (np.lib.format.read_array_header_1_0 if is_first else
                       np.lib.format.read_array_header_2_0)(header)
        _check_shape(shape, channels, name, max_pixels)
        return np.load(io.BytesIO(data), allow_pickle=False)
    if data.startswith(TIFF):
        tifffile = require('tifffile', 'tifffile', 'Reading TIFF with any channels')
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            series = file.series[0]
            _check_shape(series.shape, channels, name, max_pixels)
            _refuse_palette(name, series.keyframe.photometric.name == 'PALETTE')
            return series.asarray()
    with opened(data, name, max_pixels, also=['NumPy']) as image:
        _refuse_palette(name, image.mode in ('P', 'PA'))
        return np.array(ImageOps.exif_transpose(image))  # a copy: writable


def _check_shape(shape: Sequence[int], channels: int, name: str,
                 max_pixels: int) -> None:
    if prod(shape) > channels * max_pixels:
        raise unreadable(
            name, f'it has the shape {tuple(shape)}, allowed are {channels} channels '
            f'of {max_pixels} pixels')


def _refuse_palette(name: str, has_palette: bool) -> None:
    if has_palette:
        raise unreadable(
            name, 'its pixels are numbers of colours in a palette, not values of '
            'channels; save it as grey or RGB')


def _channels_first(pixels: np.ndarray, channels: int, name: str) -> np.ndarray:
    """``(H, W)``, ``(H, W, C)`` or ``(C, H, W)`` to ``(C, H, W)``."""
    if pixels.ndim == 2 and channels == 1:
        return pixels[None]
    if pixels.ndim == 3 and pixels.shape[2] == channels:
        return pixels.transpose(2, 0, 1)
    if pixels.ndim == 3 and pixels.shape[0] == channels:
        return pixels
    raise unreadable(
        name, f'it has the shape {pixels.shape}, but {channels} channels are needed: '
        f'(H, W, {channels}) or ({channels}, H, W)'
        + (', or (H, W)' if channels == 1 else ''))
