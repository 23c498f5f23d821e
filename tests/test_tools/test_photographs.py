"""The demo set from scikit-image's photographs."""
import os

import numpy as np
import pytest
from PIL import Image

from demo import generated, make_photograph_folder
from demo.generated import RECORD, generate_once
from demo.photographs import PHOTOGRAPHS, split_regions
from mixedae_mm.utils.errors import ConfigurationError


def test_layout_and_balance(tmp_path):
    folder = tmp_path / 'photographs'
    make_photograph_folder(str(folder), num_train=40, num_val=17, size=32)
    for split, number in (('train', 40), ('val', 17)):
        classes = sorted(os.listdir(folder / split))
        assert classes == sorted(PHOTOGRAPHS) and len(classes) == 16
        counts = [len(os.listdir(folder / split / name)) for name in classes]
        assert sum(counts) == number and max(counts) - min(counts) <= 1
    image = Image.open(next((folder / 'train' / 'cat').iterdir()))
    assert image.size == (32, 32) and image.mode == 'RGB'


def test_grey_photographs_are_the_same_crops_without_colours(tmp_path):
    arguments = dict(num_train=16, num_val=16, size=24)
    make_photograph_folder(str(tmp_path / 'coloured'), **arguments)
    make_photograph_folder(str(tmp_path / 'grey'), grey=True, **arguments)
    for path in (tmp_path / 'coloured').glob('*/*/*.jpg'):
        image = Image.open(tmp_path / 'grey' / path.relative_to(tmp_path / 'coloured'))
        assert image.mode == 'L'
        expected = np.asarray(Image.open(path).convert('L'), int)
        assert np.abs(np.asarray(image, int) - expected).mean() < 4  # of 255: JPEG


def test_images_depend_on_the_arguments_only(tmp_path):
    """A second call does nothing; other arguments make the folder anew."""
    def make(name, **kwargs):
        folder = tmp_path / name
        make_photograph_folder(
            str(folder), num_train=16, num_val=16, size=16, **kwargs)
        return (folder.stat().st_mtime_ns,
                [path.read_bytes() for path in sorted(folder.glob('*/*/*.jpg'))])

    made, first = make('a')
    assert make('a') == (made, first) and make('b')[1] == first
    again, others = make('a', seed=1)
    assert again > made and sum(a == b for a, b in zip(first, others)) < 4


def test_half_written_is_redone(tmp_path):
    folder = tmp_path / 'set'

    def fail(root):
        open(os.path.join(root, 'first'), 'w').close()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate_once(str(folder), {}, fail)
    assert not folder.exists()

    def work(root):
        assert os.listdir(root) == []
        open(os.path.join(root, 'second'), 'w').close()

    generate_once(str(folder), {}, work)
    assert sorted(os.listdir(folder)) == [RECORD, 'second']
    assert os.listdir(tmp_path) == ['set']


def test_all_cores_make_the_same(tmp_path, monkeypatch):
    """In order, with what each process is given; a failure is not lost."""
    monkeypatch.setattr(generated, 'FEW', 1)
    offset = 100
    assert generated.on_all_cores(lambda index: index + offset, 40) == list(
        range(100, 140))
    with pytest.raises(ZeroDivisionError):
        generated.on_all_cores(lambda index: 1 / (30 - index), 40)


def test_files_of_others_are_not_touched(tmp_path):
    (tmp_path / 'precious.jpg').touch()
    with pytest.raises(ConfigurationError, match='it holds other files'):
        make_photograph_folder(str(tmp_path))
    assert os.listdir(tmp_path) == ['precious.jpg']


@pytest.mark.parametrize('side', ['left', 'right', 'top', 'bottom'])
def test_validation_region_is_disjoint(side):
    regions = split_regions(101, 57, side)
    cover = np.zeros((57, 101), int)
    for left, top, right, bottom in regions.values():
        cover[top:bottom, left:right] += 1
    assert (cover == 1).all()
    left, top, right, bottom = regions['val']
    edge = dict(left=left == 0, right=right == 101, top=top == 0, bottom=bottom == 57)
    assert edge[side] and sum(edge.values()) == 3


def test_without_scikit_image(tmp_path, monkeypatch):
    import sys
    monkeypatch.setitem(sys.modules, 'skimage', None)
    with pytest.raises(ConfigurationError, match='pip install scikit-image'):
        make_photograph_folder(str(tmp_path / 'new'))
