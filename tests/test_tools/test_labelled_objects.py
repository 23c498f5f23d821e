"""The generated labelled sets: labels, formats, and what tells the classes."""
import json
import os

import numpy as np
import pytest
from PIL import Image

from demo import OBJECT_CLASSES, make_object_folder, make_scene_folder
from demo.object_painter import Painter
from mixedae_mm.utils.errors import ConfigurationError


@pytest.fixture(scope='module')
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sets') / 'scenes'
    make_scene_folder(str(folder), num_train=6, num_val=2, size=96)
    return folder


def test_objects_layout(tmp_path):
    make_object_folder(str(tmp_path / 'new'), num_train=24, num_val=9, size=48)
    for split, number in (('train', 24), ('val', 9)):
        assert set(os.listdir(tmp_path / 'new' / split)) == set(OBJECT_CLASSES)
        files = list((tmp_path / 'new' / split).glob('*/*.jpg'))
        assert len(files) == number
        assert all(Image.open(file).size == (48, 48) for file in files)
        painter = Painter(0, split)
        for index in range(number):
            _, found = painter.centred_object(index, index % 8, 48)
            rows, columns = np.nonzero(found.mask)
            assert abs(rows.mean() - 23.5) < 8 and abs(columns.mean() - 23.5) < 8


def test_scenes_agree_between_formats(scenes):
    """Semantic maps are those that COCO's instances draw, and images equal."""
    from pycocotools.coco import COCO
    for split, long_name, number in (('train', 'training', 6),
                                     ('val', 'validation', 2)):
        coco = COCO(str(scenes / f'coco/annotations/instances_{split}2017.json'))
        assert len(coco.imgs) == number
        for image_id, image in coco.imgs.items():
            stem = f'{long_name}/ADE_{split}_{image_id:08d}'
            labels = np.asarray(Image.open(scenes / f'ade/annotations/{stem}.png'))
            assert labels.shape == (image['height'], image['width'])
            drawn = np.ones_like(labels)
            for annotation in coco.imgToAnns[image_id]:
                mask = coco.annToMask(annotation).astype(bool)
                assert mask.sum() == annotation['area'] > 0
                assert (drawn[mask] == 1).all(), 'visible parts are disjoint'
                drawn[mask] = annotation['category_id'] + 1
                left, top, width, height = annotation['bbox']
                assert mask[top:top + height, left:left + width].sum() == mask.sum()
                assert mask[top].any() and mask[:, left].any()
                assert mask[top + height - 1].any() and mask[:, left + width - 1].any()
            np.testing.assert_array_equal(labels, drawn)
            ade = (scenes / f'ade/images/{stem}.jpg').read_bytes()
            name = image['file_name']
            assert ade == (scenes / f'coco/{split}2017' / name).read_bytes()
            assert Image.open(scenes / f'ade/images/{stem}.jpg').size == (
                image['width'], image['height'])


def test_some_classes_only(tmp_path):
    """In the order given; their numbers are places in that order."""
    classes = ('gravel_star', 'brick_disc')
    make_object_folder(str(tmp_path / 'objects'), 4, 2, size=32, classes=classes)
    assert sorted(os.listdir(tmp_path / 'objects/val')) == sorted(classes)
    make_scene_folder(str(tmp_path / 'scenes'), 6, 1, size=64, classes=classes)
    with open(tmp_path / 'scenes/coco/annotations/instances_train2017.json') as file:
        coco = json.load(file)
    assert [kind['name'] for kind in coco['categories']] == list(classes)
    assert {a['category_id'] for a in coco['annotations']} == {1, 2}
    maps = (tmp_path / 'scenes/ade/annotations/training').iterdir()
    values = {value for path in maps for value in np.unique(Image.open(path))}
    assert values == {1, 2, 3}
    # Each object is painted as where it is one of all classes.
    painter = Painter(0, 'train')
    painted = painter.centred_object(0, OBJECT_CLASSES.index('gravel_star'), 32)[0]
    saved = Image.open(tmp_path / 'objects/train/gravel_star/gravel_star_00000.jpg')
    assert np.abs(painted.astype(int) - np.asarray(saved)).mean() < 5


def test_images_depend_on_seed_split_and_index_only():
    painters = Painter(0, 'train'), Painter(0, 'train')
    images = [painters[0].centred_object(index, 0, 32)[0] for index in range(3)]
    np.testing.assert_array_equal(painters[1].centred_object(2, 0, 32)[0], images[2])
    others = [Painter(1, 'train').centred_object(2, 0, 32)[0],
              Painter(0, 'val').centred_object(2, 0, 32)[0], images[1]]
    for other in others:
        assert np.abs(other.astype(int) - images[2]).mean() > 5


@pytest.mark.parametrize('inside, smallest', [(0.6, 0.0), (-1.0, 0.75)])
def test_objects_across_the_edges_cover_all_pixels_alike(inside, smallest):
    """So that a map of the centre tells nothing of where they are."""
    painter, cover = Painter(0, 'val'), {}
    for index in range(400):
        image, objects = painter.scene(index, 32, 2, inside=inside)
        covered = np.any([np.zeros(image.shape[:2]), *(o.mask for o in objects)], 0)
        cover.setdefault(covered.shape, []).append(covered)
    mean = np.mean(cover[32, 32], 0)
    inner = mean[8:-8, 8:-8].mean()
    ratio = (mean.sum() - mean[8:-8, 8:-8].sum()) / (mean.size - 256) / inner
    assert smallest < ratio < 1 / 0.75
    assert ratio < 0.75 or inside < 0


def test_outside_of_objects_is_background():
    """The mask is exact: repainting with another label changes the object and
    its shadow only."""
    random = np.random.RandomState(0)
    painter = Painter(0, 'train')
    canvas = np.full((64, 64, 3), 0.5)
    painted, mask = painter.paint_object(random, canvas, 0, np.array([32, 32]), 12)
    assert 0.8 < mask.sum() / (np.pi * 12**2) < 1.2
    distance = np.hypot(*(np.indices((64, 64)) - 32))
    assert (painted[distance > 24] == 0.5).all()
    # A shadow only darkens; what is brighter than the canvas is the object.
    grown = np.zeros_like(mask)
    for shift in ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0)):
        grown |= np.roll(mask, shift, (0, 1))
    assert (painted[~grown] <= 0.5).all()


def test_colour_does_not_tell_the_class_but_shape_and_texture_do():
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    painter = Painter(0, 'train')
    colours, structures, labels = [], [], []
    for index in range(240):
        label = index % 8
        image, instance = painter.centred_object(index, label, 48)
        image, mask = image / 255., instance.mask
        colours.append(np.concatenate([image[mask].mean(0), image.mean((0, 1))]))
        grey = image.mean(2)
        steps = np.abs(np.diff(grey, axis=0))[:, 1:] + np.abs(np.diff(grey))[1:]
        inner = mask[1:, 1:]
        edge = np.abs(np.diff(mask.astype(int))).sum() + np.abs(
            np.diff(mask.astype(int), axis=0)).sum()
        spread = np.argwhere(mask).std(0)
        structures.append([
            steps[inner].mean() / grey[mask].mean(),
            np.median(steps[inner]) / grey[mask].mean(),
            edge / np.sqrt(mask.sum()), spread.prod() / mask.sum()
        ])
        labels.append(label)

    def accuracy(features):
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
        return cross_val_score(model, features, labels, cv=4).mean()

    # Chance is 0.125, its standard error 0.021.
    assert accuracy(colours) < 0.2
    assert accuracy(structures) > 0.5


@pytest.mark.parametrize('numbers, message', [
    ((7, 9), 'num_train is 7, .* at least 8'), ((8, 1), 'num_val is 1, .* at least 8')])
def test_fewer_images_than_classes_are_refused(numbers, message, tmp_path):
    with pytest.raises(ConfigurationError, match=f'make_object_folder: {message}'):
        make_object_folder(str(tmp_path / 'new'), *numbers)
    assert not (tmp_path / 'new').exists()
