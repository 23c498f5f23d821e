"""Attention against object masks, and the masks of COCO and VOC."""
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from demo import make_scene_folder
from mixedae_mm.analysis.object_awareness import (ScoredImage,
                                                  attention_on_objects,
                                                  best_iou, map_to_pixels,
                                                  object_score, score_models)
from mixedae_mm.analysis.object_masks import CocoMasks, VocMasks, masks_of, sample_masks
from mixedae_mm.utils.errors import ConfigurationError
from small_models import mixedae

MAP = np.array([[0.9, 0.1], [0.8, 0.2]])
MASK = np.array([[True, False], [False, True]])


def scored(mask=MASK, counts=None, values=MAP):
    counts = np.ones_like(mask) if counts is None else counts
    image = np.zeros((*mask.shape, 3), np.uint8)
    return ScoredImage(image, mask, counts, dict(model=values))


def score_of(*entries):
    return object_score(entries, [entry.maps['model'] for entry in entries])


def test_a_case_computed_on_paper():
    """Ranked: 0.9 object, 0.8 not, 0.2 object, 0.1 not."""
    # IoU of the first 1, 2, 3, 4 pixels: 1/2, 1/3, 2/3, 2/4.
    assert best_iou(MAP.ravel(), MASK.ravel()) == pytest.approx(2 / 3)
    # Precision is 1 at half the recall, 2/3 at all of it.
    # One threshold for all: 0.12 to 0.22 of 0.9.
    assert score_of(scored()) == pytest.approx(((1 + 2 / 3) / 2, 2 / 3, 2 / 3, 0.5, 1))


def test_one_threshold_for_all_is_not_each_images_best():
    first = scored(values=np.array([[1, 0.1], [0.1, 1]]))
    second = scored(values=np.array([[1, 0.01], [0.01, 0.1]]))
    score = score_of(first, second)
    assert score.iou == 1
    # Above 0.1 one pixel of the second is missed, at 0.1 the first is all in.
    assert score.iou_shared == pytest.approx((1 + 0.5) / 2)


@settings(max_examples=60)
@given(values=arrays(float, 12, elements=st.sampled_from([0, 0.1, 0.5, 2])),
       mask=arrays(bool, 12).filter(lambda mask: mask.any()))
def test_best_iou_tries_every_threshold(values, mask):
    ious = []
    for threshold in set(values.tolist()):
        chosen = values >= threshold
        ious.append((chosen & mask).sum() / (chosen | mask).sum())
    assert best_iou(values, mask) == pytest.approx(max(ious))


def test_what_cannot_be_scored_does_not_count():
    """Pixels that nobody labelled; images without background or object."""
    counts = np.array([[True, False], [True, True]])
    full, empty = scored(np.ones((2, 2), bool)), scored(np.zeros((2, 2), bool))
    score = score_of(full, empty, scored(counts=counts))
    # Without the pixel of 0.1: 1/2, 1/3, 2/3.
    assert score.iou == pytest.approx(2 / 3)
    assert score.object_share == pytest.approx(2 / 3)
    assert score.num_images == 1
    with pytest.raises(ConfigurationError, match='both object and background'):
        score_of(full, empty)
    with pytest.raises(ConfigurationError, match='no image'):
        score_models([])


def test_patches_become_pixels():
    values = map_to_pixels(np.array([[0., 1.]]), 2, 8)
    assert values.shape == (2, 8)
    assert (np.diff(values[0]) >= 0).all() and values[0, 0] == 0
    assert values[0, -1] == 1 and (values[0] == values[1]).all()


def coco_file(tmp_path, annotations, **image):
    Image.new('RGB', (6, 4)).save(tmp_path / 'a.png')
    (tmp_path / 'coco.json').write_text(json.dumps(dict(
        images=[dict(dict(id=7, file_name='a.png', height=4, width=6), **image),
                dict(id=8, file_name='b.png', height=4, width=6)],
        annotations=[{'id': i, 'image_id': 7, 'iscrowd': 0, **annotation}
                     for i, annotation in enumerate(annotations, 1)])))
    return masks_of(str(tmp_path / 'coco.json'), str(tmp_path))


def test_coco_masks(tmp_path):
    masks = coco_file(tmp_path, [
        dict(segmentation=[[0, 0, 2, 0, 2, 2, 0, 2]], iscrowd=None),  # a square
        dict(segmentation=dict(size=[4, 6], counts=[20, 4])),  # last column
        dict(segmentation=dict(size=[4, 6], counts=[12, 4, 8]), iscrowd=2),
    ])
    assert isinstance(masks, CocoMasks) and len(masks) == 1  # b has no object
    image = masks.read(0)
    expected = np.zeros((4, 6), bool)
    expected[:2, :2] = expected[:, 5] = True
    assert (image.objects == expected).all()
    assert (image.counts == (np.arange(6) != 3)).all()  # the crowd's column
    assert image.path == str(tmp_path / 'a.png')


SQUARE = [[0, 0, 2, 0, 2, 2, 0, 2]]


@pytest.mark.parametrize('annotation, image, facts', [
    (dict(segmentation=SQUARE, image_id=9), {}, 'coco.json .* image_id 9'),
    (dict(segmentation=SQUARE), dict(height=None), "id 7 .*coco.json .*'height'"),
    (dict(segmentation=SQUARE), dict(file_name=None), "id 7 .*coco.json.*'file_name'"),
    ({}, {}, "id 1 of 'annotations' .*coco.json has no 'segmentation'"),
    (dict(segmentation=[]), {}, 'annotation 1 in .*coco.json .* 4 x 6'),
    (dict(segmentation=[[0, 0, 1]]), {}, 'annotation 1 in .*coco.json .* 4 x 6'),
    (dict(segmentation=dict(size=[3, 6], counts=[18])), {}, '4 x 6 pixels')])
def test_coco_objects_without_image_or_mask(tmp_path, annotation, image, facts):
    with pytest.raises(ConfigurationError, match=facts):
        list(sample_masks(coco_file(tmp_path, [annotation], **image)))


def test_voc_masks(tmp_path):
    def refused(match, **options):
        with pytest.raises(ConfigurationError, match=match):
            masks_of(str(tmp_path), **options)

    refused('no folder JPEGImages')
    refused("VOC's .* leave out elsewhere", images='elsewhere')
    for folder in ('JPEGImages', 'SegmentationObject', 'ImageSets/Segmentation'):
        (tmp_path / folder).mkdir(parents=True)
    refused(r'mask \*.png is missing')
    refused('no list .*val.txt', split='val')
    labels = np.array([[0, 1, 255], [2, 0, 0]], np.uint8)
    palette = Image.fromarray(labels, 'P')
    palette.putpalette(list(range(256)) * 3)
    for name in ('one', 'two'):
        palette.save(tmp_path / f'SegmentationObject/{name}.png')
    names = tmp_path / 'ImageSets/Segmentation/val.txt'
    names.write_text('two\n')
    assert len(masks_of(str(tmp_path))) == 2
    masks = masks_of(str(tmp_path), split='val')
    assert isinstance(masks, VocMasks) and masks.names == ['two']
    image = next(sample_masks(masks))
    assert image.objects.tolist() == [[False, True, False], [True, False, False]]
    assert image.counts.tolist() == [[True, True, False], [True, True, True]]
    assert image.path.endswith('JPEGImages/two.jpg')
    with pytest.raises(ConfigurationError, match='two.jpg of a mask cannot be read'):
        attention_on_objects(dict(model=mixedae()), [image], size=16)
    names.write_text('two\nthree\n')
    masks = masks_of(str(tmp_path), split='val')
    assert masks.read(0).path.endswith('two.jpg')
    with pytest.raises(ConfigurationError, match='mask three.png is missing'):
        masks.read(1)
    file = tmp_path / 'SegmentationObject/three.png'
    file.write_text('not an image')
    with pytest.raises(ConfigurationError, match='three.png cannot be read'):
        masks.read(1)
    Image.new('RGB', (3, 2)).save(file)
    with pytest.raises(ConfigurationError, match='three.png has 3 channels'):
        masks.read(1)


@pytest.mark.parametrize('content', ['', '[]', '{"images": []}'])
def test_files_that_are_not_cocos(tmp_path, content):
    file = tmp_path / 'x.json'
    file.write_text(content)
    with pytest.raises(ConfigurationError, match='format'):
        masks_of(str(file), str(tmp_path))
    with pytest.raises(ConfigurationError, match='folder of the images'):
        masks_of(str(file))
    with pytest.raises(ConfigurationError, match='no lists of images such as val'):
        masks_of(str(file), str(tmp_path), 'val')


def test_generated_objects_from_end_to_end(tmp_path):
    """COCO's masks fit the maps of classes, as seen by the model."""
    make_scene_folder(str(tmp_path), 1, 8, size=32)
    masks = masks_of(str(tmp_path / 'coco/annotations/instances_val2017.json'),
                     str(tmp_path / 'coco/val2017'))
    model = mixedae()
    entries = attention_on_objects(
        dict(first=model, second=model), sample_masks(masks), size=16, batch_size=3)
    assert len(entries) == 8
    maps = sorted((tmp_path / 'ade/annotations/validation').iterdir())
    for index, (entry, file) in enumerate(zip(entries, maps)):
        objects = np.asarray(Image.open(file)) > 1  # 1 is the background
        assert (masks.read(index).objects == objects).all()
        # The 16 pixels in the middle, of 18 to which the shorter side was resized.
        side = round(min(objects.shape) * 16 / 18)
        top, left = ((length - side) // 2 for length in objects.shape)
        seen = objects[top:top + side, left:left + side]
        assert abs(entry.mask.mean() - seen.mean()) < 0.1
        assert entry.image.shape == (16, 16, 3)
        assert entry.maps['first'].shape == (4, 4)
    scores = score_models(entries)
    assert scores['first'] == scores['second']
    assert scores['centre of the image'].num_images == 8


@pytest.mark.parametrize('channels, message', [
    ((4, 4), 'RGB images, but .* 4 channels'), ((3, 4), "'second': 4")])
def test_images_of_other_channels_are_refused(channels, message):
    models = {name: mixedae(backbone=dict(in_channels=count), data_preprocessor=dict(
        mean=[0.] * count, std=[1.] * count))
        for name, count in zip(('first', 'second'), channels)}
    with pytest.raises(ConfigurationError, match=message):
        attention_on_objects(models, [], size=16)
