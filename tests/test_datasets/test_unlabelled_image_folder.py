"""The data set of any folder of images."""
import errno
import os
import shutil

import pytest
import torch
from mmengine import fileio
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS
from torch.utils.data import DataLoader

from mixedae_mm.datasets import UnlabelledImageFolder
from mixedae_mm.utils.errors import ConfigurationError

PIPELINE = [dict(type='LoadImageTensor'), dict(type='TensorRandomResizedCrop', size=16)]


def build(folder, **kwargs):
    return UnlabelledImageFolder(
        data_root=str(folder), pipeline=PIPELINE, **kwargs)


def names_of(dataset, folder):
    return [
        os.path.relpath(dataset.get_img_path(index), folder)
        for index in range(len(dataset))
    ]


ALL = [f'{letter}/{number}.jpg' for letter in 'abc' for number in range(4)]


@pytest.fixture
def many(tmp_path, image_folder):
    """100 images, of which `spoil(n)` makes n unreadable."""
    folder = tmp_path / 'many'
    folder.mkdir()
    for index in range(100):
        shutil.copy(image_folder / ALL[index % 12], folder / f'{index}.jpg')

    def spoil(number):
        for index in range(0, 3 * number, 3):
            (folder / f'{index}.jpg').write_bytes(b'not an image')
        return folder

    return spoil


@pytest.mark.parametrize('scope', ['mmpretrain', 'mmseg', 'mmdet'])
def test_is_registered(scope, image_folder):
    dataset = DATASETS.build(dict(
        type='UnlabelledImageFolder', data_root=str(image_folder), _scope_=scope))
    assert names_of(dataset, image_folder) == ALL


def test_samples(image_folder):
    dataset = build(image_folder)
    assert len(dataset) == 12
    sample = dataset[5]
    assert sample['img'].shape == (3, 16, 16) and sample['img'].dtype == torch.uint8
    assert sample['img_path'] == str(image_folder / 'b/1.jpg')
    assert sample['sample_idx'] == 5 and dataset[-1]['sample_idx'] == 11
    assert sample['ori_shape'] == (64, 64)
    with pytest.raises(IndexError):
        dataset[12]
    for prefix in ('b', dict(img_path='b'), 'b/'):
        part = build(image_folder, data_prefix=prefix)
        assert names_of(part, image_folder) == ALL[4:8]


@pytest.mark.parametrize('indices, expected', [
    (3, ALL[:3]), (-3, ALL[-3:]), ([5, 0, 7], [ALL[5], ALL[0], ALL[7]])])
def test_subsets(indices, expected, image_folder):
    dataset = build(image_folder)
    subset = dataset.get_subset(indices)
    assert names_of(subset, image_folder) == expected
    assert names_of(build(image_folder, indices=indices), image_folder) == expected
    dataset.get_subset_(indices)
    assert names_of(dataset, image_folder) == expected
    (image_folder / expected[1]).write_bytes(b'')
    assert subset[1]['img_path'] != subset.get_img_path(1)
    assert subset.bad_images() == [str(image_folder / expected[1])]
    assert dataset.num_bad == 0


def test_unreadable_images_are_replaced_named_and_counted(image_folder, warned):
    (image_folder / 'a/1.jpg').write_bytes(b'')
    (image_folder / 'b/2.jpg').write_bytes(b'text')
    dataset = build(image_folder)
    os.remove(image_folder / 'c/3.jpg')  # while the run goes on
    for _ in range(2):  # each is warned of once
        samples = [dataset[index] for index in range(12)]
    bad = ['a/1.jpg', 'b/2.jpg', 'c/3.jpg']
    assert dataset.num_bad == 3
    assert dataset.bad_images() == [str(image_folder / name) for name in bad]
    assert len(warned) == 3
    warned.sort(key=lambda message: bad.index(
        next(name for name in bad if name in message)))
    for name, warning in zip(bad, warned):
        assert warning.startswith('Skipped an unreadable image: ')
        assert str(image_folder / name) in warning
    for index, sample in enumerate(samples):
        path = os.path.relpath(sample['img_path'], image_folder)
        assert (path != ALL[index]) == (ALL[index] in bad) and path not in bad


@pytest.fixture
def storage(monkeypatch):
    """Reading a file fails for the paths in `storage`, so many times each."""
    failures = {}
    get = fileio.get

    def failing_get(path, **kwargs):
        if failures.get(path, 0) > 0:
            failures[path] -= 1
            raise OSError(errno.EIO, 'Input/output error', path)
        return get(path, **kwargs)

    monkeypatch.setattr(fileio, 'get', failing_get)
    monkeypatch.setattr('time.sleep', lambda seconds: None)
    return failures


def test_a_passing_error_of_the_storage_is_not_noticed(image_folder, storage,
                                                       warned):
    path = str(image_folder / 'a/1.jpg')
    storage[path] = 2
    assert build(image_folder)[1]['img_path'] == path
    assert warned == []


def test_an_image_that_could_not_be_reached_is_tried_again(image_folder, storage,
                                                           warned):
    """An outage does not take the image away for the life of the process."""
    path = str(image_folder / 'a/1.jpg')
    storage[path] = 6  # two accesses of three tries
    dataset = build(image_folder)
    for _ in range(2):
        assert dataset[1]['img_path'] != path
        assert dataset.num_bad == 1 and dataset.bad_images() == [path]
    assert len(warned) == 1 and path in warned[0]
    assert dataset[1]['img_path'] == path
    assert dataset.num_bad == 0


def test_a_storage_that_is_gone_stops_the_run(image_folder, storage):
    for name in ALL:
        storage[str(image_folder / name)] = 10**6
    with pytest.raises(ConfigurationError, match='10 of the 10 images'):
        build(image_folder)[0]


def test_replacement_depends_on_the_index_only(image_folder):
    """Not on seed, order or workers, whose counts reach the main process."""
    for name in ('a/1.jpg', 'b/2.jpg', 'c/3.jpg'):
        (image_folder / name).write_bytes(b'')
    datasets = build(image_folder), build(image_folder, seed=3)
    forwards = [datasets[0][index]['img_path'] for index in range(12)]
    backwards = [datasets[1][index]['img_path'] for index in reversed(range(12))]
    assert forwards == backwards[::-1]
    dataset = build(image_folder, seed=0)
    loader = DataLoader(dataset, batch_size=3, num_workers=2,
                        collate_fn=pseudo_collate, persistent_workers=True)
    assert [path for batch in loader for path in batch['img_path']] == forwards
    assert dataset.num_bad == 3


@pytest.mark.parametrize('workers', [0, 1])
def test_too_many_bad_images_stop(many, workers):
    dataset = build(many(20), max_bad_share=0.05)
    with pytest.raises(ConfigurationError) as caught:
        list(DataLoader(dataset, batch_size=10, num_workers=workers,
                        collate_fn=pseudo_collate))
    # The tenth bad image is the 28th: min_bad is 10.
    for fact in ('10 of the ', 'allowed is 5.0%', f'{dataset.folder}0.jpg',
                 'remove them or raise max_bad_share of the dataset.'):
        assert fact in str(caught.value)


@pytest.mark.parametrize('arguments', [
    dict(max_bad_share=0.5), dict(max_bad_share=0.05, min_bad=21)])
def test_share_that_is_allowed(arguments, many):
    dataset = build(many(20), **arguments)
    assert len([dataset[index] for index in range(100)]) == 100
    assert dataset.num_bad == 20


def test_refusals(tmp_path, image_folder):
    for index in range(3):
        (tmp_path / f'{index}.jpg').write_bytes(b'')
    (image_folder / 'a/1.jpg').write_bytes(b'')
    strict = build(image_folder, test_mode=True)  # replaces nothing
    assert strict[0]['img'].shape == (3, 16, 16)
    for action, fact in (
        (lambda: build(image_folder / 'a', extensions=['.png']), 'No image in'),
        (lambda: build(tmp_path / 'missing'), 'Cannot list the image folder'),
        (lambda: build(tmp_path / 'x', max_bad_share=-0.1), r'must be in \[0, 1\]'),
        (lambda: build(tmp_path / 'x', max_bad_share=1.5), r'must be in \[0, 1\]'),
        (lambda: build(image_folder / 'none', lazy_init=True)[0], 'Cannot list'),
        (lambda: strict[1], 'a/1.jpg: the file is empty'),
    ):
        with pytest.raises(ConfigurationError, match=fact):
            action()
    shutil.rmtree(image_folder)
    with pytest.raises(ConfigurationError, match='3 of the 3 images read so far'):
        build(tmp_path)[0]
    with pytest.raises(ConfigurationError, match='No readable image in'):
        build(tmp_path, max_bad_share=1)[0]


def test_errors_of_transforms_are_not_bad_images(image_folder):
    def broken(results):
        raise KeyError('a bug')

    dataset = UnlabelledImageFolder(data_root=str(image_folder), pipeline=[broken])
    with pytest.raises(KeyError, match='a bug'):
        dataset[0]


def test_augmentations_follow_seed_and_epoch(image_folder):
    dataset = build(image_folder, seed=1)
    first = [dataset[index]['crop_box'] for index in range(12)]
    assert first == [dataset[index]['crop_box'] for index in range(12)]
    dataset.set_epoch(1)
    assert first != [dataset[index]['crop_box'] for index in range(12)]
    dataset.set_epoch(0)
    dataset.seed = 2
    assert first != [dataset[index]['crop_box'] for index in range(12)]
