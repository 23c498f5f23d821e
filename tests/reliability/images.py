"""Image files of noise, and awkward ones as they are found in real folders."""
from pathlib import Path
from typing import List

import numpy as np
from images import noise, save
from PIL import Image


def write_noise(folder: str, count: int, cut: int = 0, pixels: int = 40) -> None:
    """Write images of 40 x 40 pixels, enlarged noise; cut some in the middle."""
    damaged = np.random.default_rng(0).choice(count, cut, replace=False)
    for number in range(count):
        image = Image.fromarray(noise((pixels, pixels), number))
        path = save(Path(folder, f'{number}.png'), image.resize((40, 40)))
        if number in damaged:
            _cut(path)


def write_awkward(folder: str) -> List[str]:
    """Write files that can be used, and some that cannot; return the latter's names."""
    path, image = Path(folder), Image.fromarray(noise((40, 40)))
    image.save(path / 'animated.gif', save_all=True, append_images=[image.rotate(90)])
    save(path / 'one.png', noise((1, 1)))
    save(path / 'wide.png', noise((20000, 3)))
    for name, mode in (('cmyk.jpg', 'CMYK'), ('palette.png', 'P'),
                       ('alpha.png', 'RGBA'), ('grey.png', 'I;16')):
        image.convert('L' if mode == 'I;16' else mode).convert(mode).save(path / name)
    image.save(path / 'png.jpg', 'PNG')
    image.save(path / 'cut.jpg')
    _cut(path / 'cut.jpg')
    (path / 'text.jpg').write_text('This is not an image.\n' * 20)
    (path / 'empty.jpg').touch()
    return ['one.png', 'wide.png', 'cut.jpg', 'text.jpg', 'empty.jpg']


def _cut(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:len(data) // 2])
