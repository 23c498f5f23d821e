"""Data sets of a few images in the formats of the real ones."""
import json
import pickle
from pathlib import Path

import images
import mat4py
import numpy as np
from mmpretrain.datasets.categories import (FGVCAIRCRAFT_CATEGORIES, FOOD101_CATEGORIES,
                                            SUN397_CATEGORIES, VOC2007_CATEGORIES)

from demo.labelled_objects import make_scene_folder


def pictures(names):
    """Write JPEGs of noise."""
    for i, name in enumerate(names):
        images.save(f'{name}.jpg', images.noise((40, 32), i), quality=90)


def lines(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text('\n'.join(content) + '\n')


def imagenet(root):
    """A thousand classes with one image each, all the same file."""
    original = images.save(root / 'original.jpg', images.noise((40, 32)))
    for split in ('train', 'val'):
        for index in range(1000):
            folder = root / split / f'n{index:08d}'
            folder.mkdir(parents=True)
            (folder / f'{index}.JPEG').hardlink_to(original)


def scenes(root, **options):
    """ADE20K and COCO; the latter with all its classes, eight of them seen."""
    make_scene_folder(str(root), **dict(
        dict(num_train=4, num_val=2, size=96), **options))
    from mmdet.datasets import CocoDataset
    for file in Path(root).glob('coco/annotations/*.json'):
        content = json.loads(file.read_text())
        content['categories'] = [dict(id=index, name=name) for index, name in enumerate(
            CocoDataset.METAINFO['classes'], 1)]
        file.write_text(json.dumps(content))


def aircraft(root, number):
    for split in ('train', 'val', 'trainval', 'test'):
        names = [f'{split}{i}' for i in range(number)]
        pictures(root / 'data/images' / name for name in names)
        lines(root / f'data/images_variant_{split}.txt', (
            f'{name} {FGVCAIRCRAFT_CATEGORIES[i % 3]}' for i, name in enumerate(names)))


def caltech101(root, number):
    for split in ('train', 'test'):
        names = [f'ant/{split}{i}' for i in range(number)]
        pictures(root / '101_ObjectCategories' / name for name in names)
        lines(root / f'meta/{split}.txt',
              (f'{name}.jpg {i % 3}' for i, name in enumerate(names)))


def cars(root, number):
    names = [f'car_ims/{i}' for i in range(2 * number)]
    pictures(root / name for name in names)
    mat4py.savemat(str(root / 'cars_annos.mat'), dict(annotations={
        'relative_im_path': [f'{name}.jpg' for name in names],
        'test': [i // number for i in range(2 * number)],
        'class': [1 + i % 3 for i in range(2 * number)]}))


def cifar(root, number, classes, monkeypatch):
    from mmpretrain.datasets import CIFAR10, CIFAR100
    dataset = CIFAR10 if classes == 10 else CIFAR100
    folder = root / dataset.base_folder
    folder.mkdir(parents=True)
    for kind in ('train_list', 'test_list'):
        files = [name for name, _ in getattr(dataset, kind)]
        for name in files:
            pixels = np.random.randint(0, 256, (number, 3072), dtype=np.uint8)
            (folder / name).write_bytes(pickle.dumps({
                'data': pixels, 'labels' if classes == 10 else 'fine_labels':
                [i % 3 for i in range(number)]}))
        # Sums of the real files.
        monkeypatch.setattr(dataset, kind, [[name, None] for name in files])


def dtd(root, number):
    names = [f'banded/{i}' for i in range(3 * number)]
    pictures(root / 'images' / name for name in names)
    (root / 'imdb').mkdir()
    mat4py.savemat(str(root / 'imdb/imdb.mat'), dict(images={
        'name': [f'{name}.jpg' for name in names],
        'set': [1 + i // number for i in range(3 * number)],
        'class': [1 + i % 3 for i in range(3 * number)]}))


def flowers102(root, number):
    pictures(root / f'jpg/image_{i:05d}' for i in range(1, 1 + 3 * number))
    mat4py.savemat(str(root / 'imagelabels.mat'),
                   dict(labels=[1 + i % 3 for i in range(3 * number)]))
    mat4py.savemat(str(root / 'setid.mat'), {
        name: list(range(1 + part * number, 1 + (part + 1) * number))
        for part, name in enumerate(('trnid', 'valid', 'tstid'))})


def food101(root, number):
    for split in ('train', 'test'):
        names = [f'{FOOD101_CATEGORIES[i % 3]}/{split}{i}' for i in range(number)]
        pictures(root / 'images' / name for name in names)
        lines(root / f'meta/{split}.txt', names)


def pets(root, number):
    for split in ('trainval', 'test'):
        names = [f'{split}_{i}' for i in range(number)]
        pictures(root / 'images' / name for name in names)
        lines(root / f'annotations/{split}.txt',
              (f'{name} {1 + i % 3} 1 1' for i, name in enumerate(names)))


def sun397(root, number):
    plain = [name for name in SUN397_CATEGORIES if '_' not in name]
    for split in ('Training', 'Testing'):
        names = [f'/{plain[i % 3][0]}/{plain[i % 3]}/{split}{i}' for i in range(number)]
        pictures(root / 'SUN397' / name[1:] for name in names)
        lines(root / f'Partitions/{split}_01.txt', (f'{name}.jpg' for name in names))


VOC_OBJECT = '<object><name>{}</name><difficult>{}</difficult></object>'


def voc2007(root, number):
    for split in ('train', 'val', 'trainval', 'test'):
        names = [f'{split}_{i}' for i in range(number)]
        pictures(root / 'JPEGImages' / name for name in names)
        for i, name in enumerate(names):
            objects = VOC_OBJECT.format(VOC2007_CATEGORIES[i % 4], 0)
            objects += VOC_OBJECT.format(VOC2007_CATEGORIES[5], i % 2)
            lines(root / f'Annotations/{name}.xml',
                  [f'<annotation>{objects}</annotation>'])
        lines(root / f'ImageSets/Main/{split}.txt', names)


def small_set(name, root, number, monkeypatch):
    """One of Table 2's sets, ``number`` images per split or file."""
    root.mkdir(parents=True, exist_ok=True)
    if name.startswith('cifar'):
        cifar(root, number, int(name[5:]), monkeypatch)
    else:
        globals()[name](root, number)
