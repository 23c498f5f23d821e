"""Image files as they are found in the wild, and worse."""
import io
import os.path as osp
import struct
import zlib
from typing import Dict

import numpy as np
from PIL import Image


def corrupt(folder: str, count: int, bad: int) -> None:
    """Images of noise, some of them cut in the middle.

    Args:
        folder (str): Where to write them.
        count (int): How many in all.
        bad (int): How many are cut.
    """
    chance = np.random.default_rng(0)
    cut = set(chance.choice(count, bad, replace=False).tolist())
    for number in range(count):
        data = _encode(_noise(chance, 40, 40), 'PNG')
        _write(folder, f'{number}.png',
               data[:len(data) // 2] if number in cut else data)


def awkward(folder: str) -> Dict[str, str]:
    """One file of each kind; returns what each is, by its name."""
    chance = np.random.default_rng(0)
    picture = _noise(chance, 40, 40)
    jpeg = _encode(picture, 'JPEG')
    frames = [_noise(chance, 40, 40) for _ in range(3)]
    files = {
        'animated.gif': ('an animation', _encode(
            frames[0], 'GIF', save_all=True, append_images=frames[1:])),
        'one.png': ('1 x 1 pixel', _encode(_noise(chance, 1, 1), 'PNG')),
        'wide.png': ('20000 x 3 pixels', _encode(_noise(chance, 20000, 3), 'PNG')),
        'cmyk.jpg': ('CMYK', _encode(picture.convert('CMYK'), 'JPEG')),
        'palette.png': ('a palette', _encode(picture.convert('P'), 'PNG')),
        'alpha.png': ('transparency', _encode(picture.convert('RGBA'), 'PNG')),
        'png.jpg': ('a PNG that is called .jpg', _encode(picture, 'PNG')),
        'text.jpg': ('a text that is called .jpg', b'This is no image.\n' * 20),
        'empty.jpg': ('no bytes', b''),
        'cut.jpg': ('half a JPEG', jpeg[:len(jpeg) // 2]),
        'cut.png': ('half a PNG', _encode(picture, 'PNG')[:2000]),
        'bomb.png': ('60000 x 60000 pixels in a small file', _bomb(60000)),
    }
    for name, (_, data) in files.items():
        _write(folder, name, data)
    return {name: kind for name, (kind, _) in files.items()}


def _noise(chance, width: int, height: int) -> Image.Image:
    return Image.fromarray(
        chance.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _encode(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _bomb(side: int) -> bytes:
    """A PNG of one bit a pixel, all black."""
    compressor, row = zlib.compressobj(1), bytes(1 + side // 8)
    rows = b''.join(compressor.compress(row) for _ in range(side))

    def chunk(name: bytes, data: bytes) -> bytes:
        return (struct.pack('>I', len(data)) + name + data +
                struct.pack('>I', zlib.crc32(name + data)))

    header = struct.pack('>2I5B', side, side, 1, 0, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', header) +
            chunk(b'IDAT', rows + compressor.flush()) + chunk(b'IEND', b''))


def _write(folder: str, name: str, data: bytes) -> None:
    with open(osp.join(folder, name), 'wb') as file:
        file.write(data)
