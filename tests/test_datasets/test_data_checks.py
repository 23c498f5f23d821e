"""What data must be: each check by the facts of its refusal."""
import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from mmengine.registry import DATASETS
from PIL import ExifTags, Image
from torch.utils.data import ConcatDataset, DataLoader, Subset

from mixedae_mm.datasets import LoadImageTensor, SampleSeededDataset, checks
from mixedae_mm.datasets.checks import coco, empty
from mixedae_mm.utils.errors import ConfigurationError


class Labelled(BaseDataset):
    """What mmpretrain's CustomDataset says of folders, without them."""

    def __init__(self, folders=None, classes=None, labels=(), **attributes):
        self.labels = labels
        super().__init__(
            metainfo=None if classes is None else dict(classes=classes),
            data_root='', serialize_data=False)
        if folders is not None:
            self.folder_to_idx = {name: i for i, name in enumerate(folders)}
        vars(self).update(attributes)

    def load_data_list(self):
        return [dict(img_path=f'{i}.jpg', gt_label=label)
                for i, label in enumerate(self.labels)]


def refused(*facts):
    """The sentence must have these facts, in any order."""
    everything = ''.join(f'(?=.*{fact})' for fact in facts)
    return pytest.raises(ConfigurationError, match=f'(?s){everything}')


ANIMALS = ['ant', 'bee', 'cat']
SHIFTED = ['aardvark', 'ant', 'bee']


@pytest.mark.parametrize('wrap', [
    lambda dataset: dataset, SampleSeededDataset,
    lambda dataset: Subset(dataset, [0]), lambda dataset: ConcatDataset([dataset])])
@pytest.mark.parametrize('kind', ['folders', 'classes'])
def test_shifted_labels(wrap, kind):
    first, second = (wrap(Labelled(labels=[0], **{kind: names}))
                     for names in (ANIMALS, SHIFTED))
    checks.check_same_classes(first, first, 'train', 'val')
    with refused("Label 0 is 'ant' in train", "'aardvark' in val", 'first: cat',
                 'second: aardvark'):
        checks.check_same_classes(first, second, 'train', 'val')


def test_equal_names_do_not_hide_other_folders():
    first, second = (Labelled(folders, ANIMALS) for folders in (ANIMALS, SHIFTED))
    with refused("Label 0 is 'ant'", "'aardvark'"):
        checks.check_same_classes(first, second, 'train', 'val')


def test_fewer_classes_in_the_second_set():
    with refused("Label 2 is 'cat' in train", 'no class in val', 'empty folder'):
        checks.check_same_classes(
            Labelled(ANIMALS), Labelled(ANIMALS[:2]), 'train', 'val')


def test_sets_that_do_not_name_the_same_thing_are_not_compared():
    """ImageNet's folders are numbers of WordNet, its annotations have names."""
    checks.check_same_classes(
        Labelled(folders=['n01', 'n02']), Labelled(classes=['tench', 'goldfish']),
        'train', 'val')
    checks.check_same_classes(Labelled(), Labelled(folders=ANIMALS), 'a', 'b')


def test_zero_label_is_reduced_in_both_sets_or_in_none():
    first, second = (Labelled(reduce_zero_label=value) for value in (True, False))
    with refused('reduce_zero_label is True in train', 'False in val'):
        checks.check_same_classes(first, second, 'train', 'val')


def test_class_names_in_another_order_than_their_folders():
    checks.check_folder_names(Labelled(ANIMALS, ['Ants', 'Bees', 'Cats']), 'train')
    with refused('the folder cat', 'has label 2', 'names it as label 0',
                 'ant, bee, cat'):
        checks.check_folder_names(Labelled(ANIMALS, ANIMALS[::-1]), 'train')


def test_classes_of_the_checkpoint():
    dataset = Labelled(classes=ANIMALS)
    for same in (None, ANIMALS, ['Ant', 'bee', 'feline']):
        checks.check_positions(same, dataset, 'test')
    with refused("'ant' has label 0 in test", 'label 1 in the checkpoint'):
        checks.check_positions(SHIFTED, dataset, 'test')
    with refused('trained on the classes back, front', 'but test', 'ant, bee, cat'):
        checks.check_positions(['back', 'front'], dataset, 'test')


@pytest.mark.parametrize('labels', [[0, 1, 3], [0, -1], [[0], [1, 3]]])
def test_labels_of_a_file_without_names(labels):
    dataset = Labelled(labels=labels, ann_file='labels.txt')
    checks.check_label_range(dataset, dict(head=4), 'train') if -1 not in labels else 0
    with refused('label (3|-1)', 'labels.txt', 'head has 3 classes', '0 to 2'):
        checks.check_label_range(dataset, dict(head=3), 'train')


def loader(size, batch_size, drop_last, sampler=DefaultSampler):
    dataset = Labelled(labels=range(size))
    return DataLoader(dataset, batch_size, drop_last=drop_last,
                      sampler=sampler(dataset))


@pytest.mark.parametrize('size, batch_size, group, advice', [
    (5, 8, 1, 'at most 5'), (5, 64, 4, 'at most 4, a multiple of 4'),
    (3, 4, 4, 'at least 4 images')])
def test_fewer_images_than_a_batch(size, batch_size, group, advice):
    with refused(f'its {size} images', f'batch_size={batch_size}', advice):
        checks.check_batches(
            loader(size, batch_size, True), 'train_dataloader', True, group)


def test_fewer_images_than_a_batch_per_process(monkeypatch):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (0, 2))
    monkeypatch.setattr('mixedae_mm.datasets.checks.batches.get_world_size', lambda: 2)
    with refused('its 12 images, 6 per process', 'at most 4'):
        checks.check_batches(loader(12, 8, True), 'train_dataloader', True, 4)


def test_batches_that_are_not_whole_groups():
    with refused('batch_size is 6', 'multiple of 4'):
        checks.check_batches(loader(24, 6, True), 'train_dataloader', True, 4)
    with refused('last batch .* has 2 images', 'drop_last=True'):
        checks.check_batches(loader(18, 8, False), 'train_dataloader', True, 4)


def test_batches_that_are_possible():
    for args in ((loader(5, 8, False), 'val', True),
                 (loader(24, 8, False), 'x', True, 4),
                 (loader(18, 8, True), 'x', True, 4),
                 # It never ends, so its batches are always full.
                 (loader(5, 8, True, InfiniteSampler), 'x', False, 4)):
        checks.check_batches(*args)
    with refused('gives no batch'):  # but an epoch of it has no step
        checks.check_batches(loader(5, 8, True, InfiniteSampler), 'x', True)


@pytest.mark.parametrize('topk, fact', [
    ((1, 5), 'top-5 accuracy of 3 classes; set its topk to at most 3'),
    *((topk, 'at least 1') for topk in (0, -1, (), (1, 2.5)))])
def test_topk_that_cannot_be(topk, fact):
    from mmpretrain.evaluation import Accuracy
    checks.check_topk([Accuracy(topk=(1, 3))], dict(head=3), 'val_evaluator')
    with refused('val_evaluator', fact):
        checks.check_topk([Accuracy(topk=topk)], dict(head=3), 'val_evaluator')


@pytest.mark.parametrize('names', [['foo'], ['mIoU', 'AP']])
def test_names_of_metrics(names):
    evaluation = pytest.importorskip('mmseg.evaluation')
    checks.check_iou([SimpleNamespace()], 'val_evaluator')
    checks.check_iou(
        [evaluation.IoUMetric(iou_metrics=['mIoU', 'mFscore'])], 'val_evaluator')
    with refused('val_evaluator', names[-1], 'mDice'):
        checks.check_iou([evaluation.IoUMetric(iou_metrics=names)], 'val_evaluator')


# COCO

CATEGORIES = ['ant', 'bee', 'cat']


def coco_content(categories=CATEGORIES, without=(), **image):
    annotation = dict(id=7, image_id=1, bbox=[1, 1, 5, 5], area=25, category_id=2,
                      iscrowd=0)
    for key in without:
        annotation.pop(key)
    return dict(
        images=[dict(id=1, file_name='1.jpg', width=60, height=40, **image)],
        annotations=[annotation],
        categories=[dict(id=i, name=name) for i, name in enumerate(categories, 1)])


def object_of(content, number=8, **changes):
    """The content with one more object."""
    content['annotations'] += [dict(content['annotations'][0], id=number, **changes)]
    return content


class CocoDataset(BaseDataset):
    """What the checks see of mmdet's data set."""
    METAINFO = dict(classes=CATEGORIES)

    def load_data_list(self):
        content = json.load(open(self.ann_file))
        return [dict(img_path=str(self.data_root) + '/' + image['file_name'],
                     width=image['width'], height=image['height'])
                for image in content['images']]


def coco_dataset(folder, content, size=(60, 40), orientation=1, **kwargs):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new('RGB', size).save(folder / '1.jpg', exif=exif)
    (folder / 'a.json').write_text(json.dumps(content))
    return CocoDataset(ann_file='a.json', data_root=str(folder), **kwargs)


def test_coco_that_fits(tmp_path):
    dataset = coco_dataset(tmp_path, coco_content(without=['iscrowd']))
    checks.check_coco(dataset, 'train')
    checks.check_coco(SampleSeededDataset(dataset), 'train')
    checks.check_coco(Labelled(classes=ANIMALS), 'train')


@pytest.mark.parametrize('classes, facts', [
    (['ant', 'bea', 'cat'],
     ["no category 'bea'", "did you mean 'bee'", 'ant, bee, cat']),
    # Labels follow the file.
    (['cat', 'bee', 'ant'], ["label 0 is 'ant'", 'ant, bee, cat'])])
def test_classes_that_are_not_those_of_the_file(tmp_path, classes, facts):
    dataset = coco_dataset(tmp_path, coco_content(), metainfo=dict(classes=classes))
    with refused('a.json', *facts):
        checks.check_coco(dataset, 'train')


@pytest.mark.parametrize(
    'key', ['image_id', 'area', 'bbox', 'category_id', 'iscrowd'])
def test_incomplete_annotations(key):
    content = coco_content(without=[key])
    with refused('id 7', 'a.json', f"no '{key}'"):
        coco.check_content(content, 'a.json', dict(annotations=coco.EVALUATED_KEYS))
    if key != 'iscrowd':
        with refused('id 7', 'a.json', f"no '{key}'"):
            coco.check_content(content, 'a.json', coco.SECTIONS)
    with refused("no 'categories'"):
        coco.check_content(dict(images=[], annotations=[]), 'a.json', coco.SECTIONS)


@pytest.mark.parametrize('section, entries, fact', [
    ('annotations', None, 'list'), ('annotations', ['x'], 'list'),
    ('categories', [dict(id=1)], "no 'name'"),
    ('annotations', [dict(id=3, bbox=[1, 2, 3])], '[1, 2, 3]'),
    ('annotations', [dict(id=3, bbox=[1, 2, 3, 4], area='12')], "'12'"),
])
def test_sections_that_are_something_else(section, entries, fact):
    content = dict(coco_content(), **{section: entries})
    with refused('a.json', fact):
        coco.check_content(content, 'a.json', dict(annotations=(), categories=['name']))


@pytest.mark.parametrize('section', ['images', 'annotations', 'categories'])
def test_one_id_for_two_things(section):
    """One of two images would be left out, with the objects of both on the other."""
    content = coco_content()
    content[section] = 2 * content[section][:1]
    with refused('2 entries', section, 'a.json', f'id {content[section][0]["id"]}'):
        coco.check_content(content, 'a.json', coco.SECTIONS)


def test_objects_without_a_mask_where_masks_are_loaded(tmp_path):
    content = coco_content()
    dataset = coco_dataset(tmp_path, content)
    checks.check_coco(dataset, 'train')
    dataset.pipeline.transforms = [SimpleNamespace(with_mask=True)]
    with refused('Annotation 7', 'a.json', "no 'segmentation'", 'with_mask=True'):
        checks.check_coco(dataset, 'train')


@pytest.mark.parametrize('polygons, test_mode, is_refused', [
    ([[1, 1, 6, 6]], False, True), ([[1, 1, 6, 1, 6]], False, True),
    ([[1, 1, 6, 6], [1, 1, 6, 1, 6, 6]], False, False),
    ([[1, 1, 6, 6], [1, 1, 6, 1, 6, 6]], True, True),  # the metric fails
    ([[1, 1, 6, 1, 6, 6]], True, False),
    (dict(size=[40, 60], counts=[2400]), True, False)])
def test_polygons_of_fewer_than_three_points(tmp_path, polygons, test_mode, is_refused):
    content = coco_content()
    content['annotations'][0]['segmentation'] = polygons
    dataset = coco_dataset(tmp_path, content, test_mode=test_mode)
    dataset.pipeline.transforms = [SimpleNamespace(with_mask=True)]
    with refused('Annotation 7', 'a.json', 'three points') if (
            is_refused) else nullcontext():
        checks.check_coco(dataset, 'train')


@pytest.mark.parametrize('changes', [
    dict(bbox=[60, 1, 5, 5]), dict(bbox=[1, 1, 0, 0]), dict(image_id=2)])
def test_objects_that_are_left_out_are_counted(tmp_path, warned, changes):
    content = object_of(coco_content(), **changes)
    checks.check_coco(coco_dataset(tmp_path, content), 'train')
    assert '1 of 2 objects' in warned[0] and 'annotation 8' in warned[0]
    content['annotations'] = content['annotations'][1:]
    with refused('a.json', 'annotation 8|image_id'):
        checks.check_coco(coco_dataset(tmp_path, content), 'train')


def test_crowds_alone_teach_nothing(tmp_path):
    content = coco_content()
    content['annotations'][0]['iscrowd'] = 1
    with refused('All 1 annotations', 'a.json', 'iscrowd'):
        checks.check_coco(coco_dataset(tmp_path, content), 'train')
    checks.check_coco(coco_dataset(tmp_path, content, test_mode=True), 'val')
    checks.check_coco(
        coco_dataset(tmp_path, object_of(content, iscrowd=0)), 'train')


def test_categories_that_the_file_does_not_have_are_counted(tmp_path, warned):
    content = object_of(coco_content(), category_id='2')
    checks.check_coco(coco_dataset(tmp_path, content), 'train')
    assert '1 of 2 annotations' in warned[0]
    assert "such as 8 with category_id='2'" in warned[0]


def test_panoptic_files_have_other_keys(tmp_path):
    """mmdet's panoptic data sets inherit how ``CocoDataset`` lists images."""
    content = dict(coco_content(), annotations=[dict(
        image_id=1, file_name='1.png', segments_info=[])])
    checks.check_coco(coco_dataset(tmp_path, content), 'train')


def test_test_images_need_no_annotations(tmp_path):
    content = coco_content()
    del content['annotations']
    dataset = coco_dataset(tmp_path, content)
    with refused("no 'annotations'"):
        checks.check_coco(dataset, 'train')
    dataset.test_mode = True
    checks.check_coco(dataset, 'test')
    metric = SimpleNamespace(
        _coco_api=SimpleNamespace(dataset=content), format_only=True)
    checks.check_coco_metric(metric, CATEGORIES, 'test.json')


@pytest.mark.parametrize('content, classes, facts', [
    (coco_content(), CATEGORIES, []),
    (coco_content(), ['ant', 'dog'], ["no category 'dog'"]),
    (coco_content(without=['iscrowd']), CATEGORIES, ["no 'iscrowd'", 'id 7']),
    (object_of(coco_content(), number=0), CATEGORIES, ['id 0', 'pycocotools'])])
def test_file_of_the_metric(content, classes, facts):
    checks.check_coco_metric(SimpleNamespace(), classes, 'val.json')  # without a file
    metric = SimpleNamespace(_coco_api=SimpleNamespace(dataset=content))
    with refused('val.json', *facts) if facts else nullcontext():
        checks.check_coco_metric(metric, classes, 'val.json')


def test_file_that_is_no_json(tmp_path):
    dataset = coco_dataset(tmp_path, coco_content())
    (tmp_path / 'a.json').write_text('{"images": [')
    with refused('a.json', 'train', 'JSON'):
        checks.check_coco(dataset, 'train')


def test_no_image_with_a_wanted_class(tmp_path):
    content = coco_content()
    content['annotations'][0]['category_id'] = 99
    dataset = coco_dataset(
        tmp_path, content, filter_cfg=dict(filter_empty_gt=True))
    with refused('Not one of the 1 images', 'a.json', 'filter_empty_gt'):
        checks.check_coco(dataset, 'train')


@pytest.mark.parametrize('size, orientation, facts', [
    ((30, 20), 1, ['says 60 x 40', 'has 30 x 20']),
    ((60, 40), 6, ['says 60 x 40', 'has 40 x 60', 'EXIF']),
    ((40, 60), 6, [])])  # annotated as it is shown, which is how it is loaded
def test_image_of_another_size_than_annotated(tmp_path, size, orientation, facts):
    dataset = coco_dataset(tmp_path, coco_content(), size, orientation,
                           pipeline=[dict(type='LoadImageTensor')])
    with refused('a.json', *facts) if facts else nullcontext():
        checks.check_samples(dataset, 'train')


# Samples, loaded by the pipeline


def write_pair(folder, values, image_size=(60, 40), orientation=1):
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.new('RGB', image_size).save(folder / 'a.jpg', exif=exif)
    mask = np.resize(np.array(values, np.uint8), (40, 60))
    Image.fromarray(mask).save(folder / 'a.png')


def check_masks(folder, num_classes=2, **kwargs):
    """Of a data set of mmseg, in a wrapper."""
    datasets = pytest.importorskip('mmseg.datasets')
    dataset = datasets.BaseSegDataset(
        data_root=str(folder), data_prefix=dict(img_path='', seg_map_path=''),
        metainfo=dict(classes=['a', 'b']), pipeline=[
            dict(type='LoadImageFromFile'), dict(type='Resize', scale=(9, 9)),
            dict(type='mmseg.LoadAnnotations')],
        **kwargs)
    checks.check_samples(
        SampleSeededDataset(dataset), 'train', dict(decode_head=num_classes))
    return dataset


@pytest.mark.parametrize('values, num_classes, reduced', [
    ([0, 1, 255], 2, False), ([0, 1, 2], 2, True)])
def test_labels_that_a_head_predicts(tmp_path, values, num_classes, reduced):
    write_pair(tmp_path, values)
    check_masks(tmp_path, num_classes, reduce_zero_label=reduced)


@pytest.mark.parametrize('values, size, facts', [
    ([0, 11], (60, 40), ['label 11']), ([0, 1], (50, 40), ['has 60 x 40'])])
def test_masks_outside_the_sample_are_refused_when_they_are_loaded(
        tmp_path, values, size, facts):
    write_pair(tmp_path, [0, 1])
    dataset = check_masks(tmp_path, 2)
    assert dataset[0]['gt_seg_map'].max() == 1
    write_pair(tmp_path, values, size)
    with refused(f'{tmp_path}/a.png', *facts):
        dataset[0]


@pytest.mark.parametrize('values, reduced, facts', [
    ([0, 11], False, ['label 11', '0 to 10', 'reduce_zero_label']),
    ([1, 12], True, ['label 12', '0 to 10'])])
def test_labels_that_no_head_predicts(tmp_path, values, reduced, facts):
    write_pair(tmp_path, values)
    with refused(f'{tmp_path}/a.png', '11 classes', *facts):
        check_masks(tmp_path, 11, reduce_zero_label=reduced)


def test_a_foreground_that_is_ignored_is_warned_of(tmp_path, warned):
    write_pair(tmp_path, [0, 1])
    check_masks(tmp_path)
    check_masks(tmp_path, reduce_zero_label=True)  # loaded as 255 and 0
    assert not warned
    write_pair(tmp_path, [0, 255])
    check_masks(tmp_path)
    assert 'write it as 1' in warned[0]


@pytest.mark.parametrize('values, cut', [([0, 1, 255], None), ([0, 257], 1)])
def test_masks_of_16_bits(tmp_path, values, cut):
    write_pair(tmp_path, [0])
    mask = np.resize(np.array(values, np.uint16), (40, 60))
    Image.fromarray(mask).save(tmp_path / 'a.png')
    if cut is None:
        check_masks(tmp_path)
        return
    with refused('a.png', f'value {max(values)}', f'read as {cut}', '8 bits'):
        check_masks(tmp_path)


def test_masks_of_colours(tmp_path):
    write_pair(tmp_path, [0])
    Image.new('RGB', (60, 40)).save(tmp_path / 'a.png')
    with refused('a.png', '3 channels'):
        check_masks(tmp_path)


@pytest.mark.parametrize('file', ['a.png', 'a.jpg'])
def test_files_that_are_no_images(tmp_path, file):
    write_pair(tmp_path, [0, 1])
    (tmp_path / file).write_text('not an image')
    with refused('train', 'Load', f'{tmp_path}/{file}'):
        check_masks(tmp_path)


def test_masks_of_another_size(tmp_path):
    write_pair(tmp_path, [0], image_size=(30, 20))
    with refused('a.png has 60 x 40', 'a.jpg has 30 x 20'):
        check_masks(tmp_path)
    write_pair(tmp_path, [0], orientation=6)
    with refused('a.png has 60 x 40', 'has 40 x 60', 'EXIF'):
        check_masks(tmp_path)


def test_samples_are_looked_at_over_the_whole_set(tmp_path):
    Image.new('RGB', (9, 9)).save(tmp_path / '0.jpg')
    dataset = Labelled(labels=[0] * 3)
    for info in dataset.data_list:
        info['img_path'] = str(tmp_path / info['img_path'])
    with refused(f'{tmp_path}/1.jpg', 'does not exist'):
        checks.check_samples(ConcatDataset([dataset]), 'train')


@pytest.mark.parametrize('backend', [dict(backend='lmdb', db_path='images'), None])
def test_other_storage_is_not_looked_into(backend):
    """Its paths are addresses, or keys of a data base."""
    dataset = Labelled(labels=[0])
    dataset.data_list[0]['img_path'] = 'key' if backend else 's3://images/0.jpg'
    dataset.pipeline.transforms = [LoadImageTensor(backend_args=backend)]
    checks.check_samples(dataset, 'train')


# Empty data sets, and those that fail to be built


def test_images_by_another_name(tmp_path, warned):
    for name in ('a.JPG', 'b.JPG', 'c.jpg'):
        Image.new('RGB', (9, 9)).save(tmp_path / name, 'JPEG')
    empty.check_suffix(str(tmp_path), ['.jpg'], 'train', 'img_suffix')
    assert '2 .JPG (a.JPG, b.JPG)' in warned[0] and '.jpg' in warned[0]
    with refused('2 .JPG', '1 .jpg', 'img_suffix takes only', '.png'):
        empty.check_suffix(str(tmp_path), ['.png'], 'train', 'img_suffix')
    empty.check_suffix(str(tmp_path), ['.jpg'], 'x', 'extensions', ignore_case=True)
    assert len(warned) == 1


def test_images_that_a_set_leaves_out_are_named(tmp_path, warned):
    """Of sets that are not empty, too."""
    (tmp_path / 'ant').mkdir()
    for name in ('a.jpg', 'b.webp'):
        Image.new('RGB', (9, 9)).save(tmp_path / 'ant' / name)
    dataset = DATASETS.build(dict(
        type='mmpretrain.CustomDataset', data_root=str(tmp_path)))
    assert len(dataset) == 1
    checks.check_left_out(SampleSeededDataset(dataset), 'train')
    assert '1 .webp (ant/b.webp)' in warned[0] and 'left out' in warned[0]


def test_folders_without_a_single_image(tmp_path):
    with refused(str(tmp_path), 'no file that ends in .jpg', 'img_suffix'):
        empty.check_suffix(str(tmp_path), ['.jpg'], 'train', 'img_suffix')
    (tmp_path / 'a.npy').touch()
    empty.check_suffix(str(tmp_path), ['.npy'], 'train', 'img_suffix')
    with refused('no file that ends in .jpg', '1 .npy'):
        empty.check_suffix(str(tmp_path), ['.jpg'], 'train', 'img_suffix')


def test_why_a_segmentation_set_is_empty(tmp_path):
    pytest.importorskip('mmseg.datasets')
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.JPG', 'JPEG')
    config = dict(type='mmseg.BaseSegDataset', data_root=str(tmp_path),
                  data_prefix=dict(img_path=''), metainfo=dict(classes=['a']))
    with refused('1 .JPG', 'img_suffix', 'not one image'):
        empty.explain_failure(
            dict(type='RepeatDataset', times=2, dataset=config), 'train_dataloader')


def test_a_list_of_images_that_is_empty(tmp_path):
    pytest.importorskip('mmseg.datasets')
    (tmp_path / 'train.txt').touch()
    config = dict(type='mmseg.BaseSegDataset', data_root=str(tmp_path),
                  ann_file='train.txt', metainfo=dict(classes=['a']))
    with refused('train_dataloader', 'no samples', f'{tmp_path}/train.txt'):
        empty.explain_failure(config, 'train_dataloader')


def test_images_beside_the_folders_of_classes(tmp_path):
    Image.new('RGB', (9, 9)).save(tmp_path / 'a.jpg')
    config = dict(type='mmpretrain.CustomDataset', data_root=str(tmp_path))
    with refused('train_dataloader', str(tmp_path), 'folder of images for each class'):
        empty.explain_failure(config, 'train_dataloader')


def test_why_a_folder_of_classes_is_empty(tmp_path):
    (tmp_path / 'ant').mkdir()
    Image.new('RGB', (9, 9)).save(tmp_path / 'ant/a.webp')
    config = dict(type='mmpretrain.CustomDataset', data_root=str(tmp_path))
    with refused('1 .webp', 'extensions', '.jpeg'):
        empty.explain_failure(config, 'train_dataloader')


def test_no_samples():
    with refused('has no samples'):
        checks.check_not_empty(torch.utils.data.Subset(Labelled(), []), 'train')
