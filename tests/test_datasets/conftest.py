import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope='session')
def photograph():
    """A real photograph of 250 x 167 pixels, RGB."""
    from demo.photographs import load_photographs
    return load_photographs()['coffee'].resize((250, 167), Image.BICUBIC)


@pytest.fixture
def image_folder(tmp_path, photograph):
    """Three folders of four small JPEGs of different content."""
    folder = tmp_path / 'images'
    for name in 'abc':
        (folder / name).mkdir(parents=True)
        for index in range(4):
            left = 20 * index + 40 * (ord(name) - ord('a'))
            photograph.crop((left, 10, left + 64, 74)).save(
                folder / name / f'{index}.jpg', quality=95)
    return folder


@pytest.fixture(scope='session')
def as_array():
    """(H, W, 3) integers of a tensor (3, H, W)."""
    return lambda tensor: tensor.permute(1, 2, 0).numpy().astype(np.int64)
