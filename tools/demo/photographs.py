"""A small data set from the photographs that ship inside scikit-image.

Real pixels without a download: the wheel of scikit-image contains about
twenty photographs. Random crops of sixteen of them make a folder in ImageNet's
layout, the photograph being the class.
"""
import os
import random
from typing import Dict, Tuple

from PIL import Image

from mixedae_mm.utils.errors import ConfigurationError
from .generated import generate_once, on_all_cores

# class name -> file in skimage/data, and the side at which validation crops are
# taken (where something typical of the photograph is to be seen). Left out are
# drawings (logo, horse, phantom, chessboards, colour wheel), blurred or tiny
# pictures (clock, cell, microaneurysms) and the motorcycle's second view.
PHOTOGRAPHS = dict(
    astronaut=('astronaut.png', 'bottom'),
    brick=('brick.png', 'right'),
    cameraman=('camera.png', 'top'),
    cat=('chelsea.png', 'left'),
    coffee=('coffee.png', 'bottom'),
    coins=('coins.png', 'right'),
    galaxies=('hubble_deep_field.jpg', 'right'),
    grass=('grass.png', 'right'),
    gravel=('gravel.png', 'right'),
    handwriting=('text.png', 'right'),
    moon=('moon.png', 'bottom'),
    motorcycle=('motorcycle_left.png', 'right'),
    page=('page.png', 'right'),
    retina=('retina.jpg', 'left'),
    rocket=('rocket.jpg', 'bottom'),
    tissue=('ihc.png', 'right'),
)

# Share of a photograph that only validation crops are taken from.
VALIDATION_SHARE = 0.4
# Side of a crop over the shorter side of the region it is taken from.
CROP_SHARE = (0.4, 1.0)
JPEG_QUALITY = 92

Box = Tuple[int, int, int, int]


def load_photographs() -> Dict[str, Image.Image]:
    """The photographs as RGB images, by class name.

    Raises:
        ConfigurationError: If scikit-image is not installed, or lacks a file.
    """
    try:
        import skimage
    except ImportError as error:
        raise ConfigurationError(
            'The demo photographs are those inside scikit-image, which is not '
            'installed: run `pip install scikit-image`.') from error
    folder = os.path.join(os.path.dirname(skimage.__file__), 'data')
    try:
        return {
            name: Image.open(os.path.join(folder, file)).convert('RGB')
            for name, (file, _) in PHOTOGRAPHS.items()
        }
    except OSError as error:
        raise ConfigurationError(
            f'A demo photograph is missing in {folder} ({error}): install '
            'scikit-image 0.20 or newer.') from error


def split_regions(width: int, height: int, side: str) -> Dict[str, Box]:
    """Two disjoint regions of a photograph: (left, top, right, bottom).

    ``side`` is where the validation region is: 'left', 'right', 'top' or 'bottom'.
    """
    is_first = side in ('left', 'top')
    share = VALIDATION_SHARE if is_first else 1 - VALIDATION_SHARE
    if side in ('left', 'right'):
        cut = round(width * share)
        regions = (0, 0, cut, height), (cut, 0, width, height)
    else:
        cut = round(height * share)
        regions = (0, 0, width, cut), (0, cut, width, height)
    return dict(zip(('val', 'train') if is_first else ('train', 'val'), regions))


def draw_crop(generator: random.Random, region: Box) -> Box:
    """A random square inside a region."""
    left, top, right, bottom = region
    longest = min(right - left, bottom - top)
    side = round(generator.uniform(*CROP_SHARE) * longest)
    x = generator.randint(left, right - side)
    y = generator.randint(top, bottom - side)
    return x, y, x + side, y + side


def make_photograph_folder(folder: str,
                           num_train: int = 3000,
                           num_val: int = 480,
                           size: int = 96,
                           seed: int = 0,
                           grey: bool = False) -> None:
    """Make ``folder/{train,val}/<class>/*.jpg`` from the photographs.

    The classes take turns, so each has an equal number of images (up to one).
    Training and validation crops come from disjoint regions of a photograph.
    The same arguments give the same pixels. A second call finds the folder
    complete and does nothing.

    Args:
        folder (str): Where to; must be new, empty or generated before.
        num_train, num_val (int): Numbers of images, at least one per class.
        size (int): Side of the square images in pixels, at least 8.
        seed (int): Seed of the crops.
        grey (bool): Without colours, which alone tell many photographs apart.

    Raises:
        ConfigurationError: If the folder holds other files or scikit-image is not
            installed.
    """
    def write(root: str) -> None:
        photographs = load_photographs()
        for split, number in (('train', num_train), ('val', num_val)):
            for name in photographs:
                os.makedirs(os.path.join(root, split, name))
            generator = random.Random(f'{seed}/{split}')
            names = sorted(photographs)
            regions = {
                name: split_regions(*image.size, PHOTOGRAPHS[name][1])[split]
                for name, image in photographs.items()}
            # One after the other: each depends on the numbers drawn before.
            boxes = [draw_crop(generator, regions[names[index % len(names)]])
                     for index in range(number)]

            def crop(index: int) -> None:
                name = names[index % len(names)]
                image = photographs[name].resize(
                    (size, size), Image.Resampling.BICUBIC, box=boxes[index],
                    reducing_gap=3.0)
                if grey:
                    image = image.convert('L')
                image.save(
                    os.path.join(root, split, name, f'{name}_{index:05d}.jpg'),
                    quality=JPEG_QUALITY)

            on_all_cores(crop, number)

    generate_once(
        folder,
        dict(generator='photographs', version=2, num_train=num_train,
             num_val=num_val, size=size, seed=seed, grey=grey), write)
