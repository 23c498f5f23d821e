"""Images that tests write."""
import io
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image


def noise(size, seed=0):
    """Pixels (H, W, 3) for a size (W, H), other ones for each seed."""
    return np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)


def save(path, image, orientation=None, **options):
    """Write a PIL image, an array, or a black image of a size (W, H); returns the path.

    Folders are made. The orientation is EXIF's: 6 has to be turned clockwise.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(image, tuple):
        image = Image.new('RGB', image)
    elif isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    if orientation is not None:
        options['exif'] = oriented(orientation)
    image.save(path, **options)
    return path


def encoded(image, format, **options):
    """The bytes of a file that holds a PIL image."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def many_scans(image, count):
    """The bytes of a progressive JPEG with the last of its scans so often more."""
    data = encoded(image, 'JPEG', progressive=True)
    return data[:-2] + data[data.rindex(b'\xff\xda'):-2] * count + data[-2:]


def oriented(value):
    """EXIF data with an orientation."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = value
    return exif
