"""Image files of noise, and awkward ones as they are found in real folders."""
from pathlib import Path
from typing import List

import numpy as np
from PIL import Image


def write_noise(folder: str, count: int, cut: int = 0, pixels: int = 40) -> None:
    """Write images of 40 x 40 pixels, enlarged noise; cut some in the middle."""
    Path(folder).mkdir(parents=True)
    random = np.random.default_rng(0)
    damaged = set(random.choice(count, cut, replace=False).tolist())
    for number in range(count):
        path = Path(folder, f'{number}.png')
        _noise(random, pixels, pixels).resize((40, 40)).save(path)
        if number in damaged:
            _cut(path)


def write_awkward(folder: str) -> List[str]:
    """Write files that can be used, and some that cannot; return the latter's names."""
    random, path = np.random.default_rng(0), Path(folder)
    image = _noise(random, 40, 40)
    image.save(path / 'animated.gif', save_all=True, append_images=[image.rotate(90)])
    _noise(random, 1, 1).save(path / 'one.png')
    _noise(random, 20000, 3).save(path / 'wide.png')
    for name, mode in (('cmyk.jpg', 'CMYK'), ('palette.png', 'P'),
                       ('alpha.png', 'RGBA'), ('grey.png', 'I;16')):
        image.convert('L' if mode == 'I;16' else mode).convert(mode).save(path / name)
    image.save(path / 'png.jpg', 'PNG')
    image.save(path / 'cut.jpg')
    _cut(path / 'cut.jpg')
    (path / 'text.jpg').write_text('This is not an image.\n' * 20)
    (path / 'empty.jpg').touch()
    return ['one.png', 'wide.png', 'cut.jpg', 'text.jpg', 'empty.jpg']


def _noise(random, width: int, height: int) -> Image.Image:
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
