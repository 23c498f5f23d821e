"""From the bytes of an image file to an RGB tensor.

JPEG, the format of most large data sets, goes through torchvision's decoder:
about a third faster than Pillow's way to a tensor, and equal to it bit for bit.
Every other format goes through Pillow. That includes PNG on purpose: a damaged
PNG makes torchvision's decoder crash the whole process (segmentation fault
inside libpng's error handler, seen with torchvision 0.29), where Pillow raises.
"""
import io
import warnings
from contextlib import contextmanager
from typing import Iterator, Sequence, Union

import torch
from PIL import ExifTags, Image
from torchvision.io import ImageReadMode, decode_jpeg

from ..utils.errors import ConfigurationError
from ..utils.messages import reason_of
from ..utils.pixels import rgb_of_pil

# torchvision 0.29 announces that its decoder will move, once per process.
warnings.filterwarnings(
    'ignore', message='The image decoding and encoding capabilities')

Buffer = Union[bytes, bytearray, memoryview]
# Pillow knows more formats; those that are left out are documents, need an
# external program (EPS), or are unlikely to be photographs.
Image.init()
FORMATS = tuple(
    name for name in ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'PPM',
                      'JPEG2000', 'AVIF') if name in Image.OPEN)
# All names that Pillow knows for them, `.jfif` and `.jpe` included: the one list
# of what counts as an image file. MPO is a JPEG of several images.
EXTENSIONS = tuple(
    sorted(extension for extension, name in Image.registered_extensions().items()
           if name in FORMATS or name == 'MPO'))

# Pillow's own limit against decompression bombs, 89 million pixels.
MAX_PIXELS = int(1024 * 1024 * 1024 // 4 // 3)
# Each scan of a progressive JPEG is a pass over all its pixels: a small file
# with thousands of scans would take minutes. Encoders write about ten.
MAX_JPEG_SCANS = 100
START_OF_SCAN = b'\xff\xda'


class UnreadableImageError(ConfigurationError):
    """An image file cannot be used; the message names the file and says why."""


def decode_rgb(data: Buffer, name: str = 'image', max_pixels: int = MAX_PIXELS,
               min_side: int = 1) -> torch.Tensor:
    """Decode an image file into RGB, as Pillow does.

    The result is that of ``ImageOps.exif_transpose(Image.open(file)).convert('RGB')``:
    the EXIF orientation is applied, an alpha channel is dropped, grey values are
    repeated, CMYK is converted, of an animation the first frame is taken. Of more than
    8 bits, which Pillow would clip, see :func:`~mixedae_mm.utils.pixels.to_8_bits`.

    Args:
        data: The content of the file.
        name (str): Name of the file for error messages.
        max_pixels (int): Largest number of pixels, checked before memory is taken.
        min_side (int): Smallest allowed length of the shorter side.

    Returns:
        torch.Tensor: uint8, (3, H, W).

    Raises:
        UnreadableImageError: If the file is empty, not an image, damaged, too large or
            small, or has pixels without an agreed range (32-bit integers, floating
            point outside 0..1).
    """
    image = opened(data, name, max_pixels)
    check_size(name, *image.size, max_pixels, min_side)
    with naming(name):
        is_upright = image.getexif().get(ExifTags.Base.Orientation, 1) == 1
        if not (_is_jpeg(image) and is_upright):
            return rgb_of_pil(image)
        # A copy, because tensors over read-only memory bring a warning each.
        buffer = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        return decode_jpeg(buffer, ImageReadMode.RGB)


def opened(data: Buffer, name: str, max_pixels: int,
           also: Sequence[str] = ()) -> Image.Image:
    """Open an image file by Pillow and check its header, before any memory is taken.

    ``also`` names formats that the caller reads in another way, for the error.
    """
    if len(data) == 0:
        raise unreadable(name, 'the file is empty')
    # One pixel takes at most 8 bytes (16-bit RGBA, uncompressed).
    if len(data) > 8 * max_pixels + 2**20:
        raise unreadable(
            name, f'it has {len(data)} bytes, too many for an image of at most '
            f'{max_pixels} pixels')
    with naming(name):
        try:
            image = Image.open(io.BytesIO(data), formats=FORMATS)
        except Image.DecompressionBombError as error:
            raise unreadable(
                name, f'it has more than {2 * MAX_PIXELS} pixels, allowed are '
                f'{max_pixels}') from error
        except Image.UnidentifiedImageError as error:
            raise unreadable(
                name, 'its content is not in one of the known image formats '
                f'({", ".join((*also, *FORMATS))})') from error
    check_size(name, *image.size, max_pixels)
    if _is_jpeg(image) and 'progressive' in image.info:
        num_scans = bytes(data).count(START_OF_SCAN)
        if num_scans > MAX_JPEG_SCANS:
            raise unreadable(
                name, f'it is a progressive JPEG of {num_scans} scans, allowed '
                f'are {MAX_JPEG_SCANS}')
    return image


def check_size(name: str, width: int, height: int, max_pixels: int,
               min_side: int = 1) -> None:
    """Refuse an image with too many pixels, or too few along a side."""
    if width * height > max_pixels:
        raise unreadable(
            name, f'it has {width} x {height} = {width * height} pixels, '
            f'allowed are {max_pixels}')
    if min(width, height) < min_side:
        raise unreadable(
            name, f'it has {width} x {height} pixels, the shorter side must '
            f'have at least {min_side}')


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Turn whatever bad bytes lead to in a decoder into an UnreadableImageError."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        raise unreadable(
            name, f'it is damaged, truncated or unsupported ({reason_of(error)})'
        ) from error


def _is_jpeg(image: Image.Image) -> bool:
    return image.format in ('JPEG', 'MPO')


def unreadable(name: str, reason: str) -> UnreadableImageError:
    """The error of a file that cannot be used."""
    return UnreadableImageError(f'Cannot read the image {name}: {reason}.')
