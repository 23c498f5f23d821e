"""What was drawn on an image must have its size when it is loaded."""
from typing import Tuple

from PIL import ExifTags, Image

from ...utils.errors import ConfigurationError

UNKNOWN_TO_PILLOW = (OSError, Image.DecompressionBombError)
# Orientations that exchange height and width.
TURNED = (5, 6, 7, 8)
Size = Tuple[int, int]  # (width, height) in pixels


def check_image_size(image_path: str, size: Size, claim: str) -> None:
    """Refuse a mask or an annotation that was made for another size.

    Args:
        image_path (str): A local image.
        size (tuple[int, int]): (width, height) that it should have.
        claim (str): Begin of the sentence: what has or says this size.

    Raises:
        ConfigurationError: If the image has another size.
        OSError: If Pillow cannot read the image, as all of ``UNKNOWN_TO_PILLOW``.
    """
    stored, loaded = sizes_of(image_path)
    if size == loaded:
        return
    turned = ''
    if size == stored:
        turned = (': it is turned as its EXIF orientation says; write it turned and '
                  'without the orientation')
    raise ConfigurationError(
        f'{claim} {size[0]} x {size[1]} pixels (width x height), but the image '
        f'{image_path} has {loaded[0]} x {loaded[1]} when it is loaded{turned}.')


def sizes_of(image_path: str) -> Tuple[Size, Size]:
    """(width, height) as stored, and as loaded: turned as EXIF says."""
    with Image.open(image_path) as image:
        width, height = image.size
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    turned = (height, width) if orientation in TURNED else (width, height)
    return (width, height), turned
