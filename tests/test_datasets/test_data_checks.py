"""What data must be: each check by the facts of its refusal."""
import json
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from images import save
from mmengine.dataset import BaseDataset, DefaultSampler, InfiniteSampler
from mmengine.registry import DATASETS
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


def expect(facts, *always):
    """A refusal with these facts and those of every case; without any, none."""
    return refused(*always, *facts) if facts else nullcontext()


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


@pytest.mark.parametrize('first, second, facts', [
    # Equal names do not hide other folders.
    (dict(folders=ANIMALS, classes=ANIMALS), dict(folders=SHIFTED, classes=ANIMALS),
     ["Label 0 is 'ant'", "'aardvark'"]),
    (dict(folders=ANIMALS), dict(folders=ANIMALS[:2]),
     ["Label 2 is 'cat' in train", 'no class in val', 'empty folder']),
    (dict(reduce_zero_label=True), dict(reduce_zero_label=False),
     ['reduce_zero_label is True in train', 'False in val']),
    # ImageNet's folders are numbers of WordNet, its annotations have names.
    (dict(folders=['n01', 'n02']), dict(classes=['tench', 'goldfish']), []),
    (dict(), dict(folders=ANIMALS), [])])
def test_labels_of_two_sets(first, second, facts):
    with expect(facts):
        checks.check_same_classes(
            Labelled(**first), Labelled(**second), 'train', 'val')


def test_class_names_in_another_order_than_their_folders():
    checks.check_folder_names(Labelled(ANIMALS, ['Ants', 'Bees', 'Cats']), 'train')
    with refused('the folder cat', 'has label 2', 'names it as label 0',
                 'ant, bee, cat'):
        checks.check_folder_names(Labelled(ANIMALS, ANIMALS[::-1]), 'train')


@pytest.mark.parametrize('trained, facts', [
    (None, []), (ANIMALS, []), (['Ant', 'bee', 'feline'], []),
    (SHIFTED, ["'ant' has label 0 in test", 'label 1 in the checkpoint']),
    (['back', 'front'], ['trained on the classes back, front', 'but test',
                         'ant, bee, cat'])])
def test_classes_of_the_checkpoint(trained, facts):
    with expect(facts):
        checks.check_positions(trained, Labelled(classes=ANIMALS), 'test')


@pytest.mark.parametrize('labels', [[0, 1, 3], [0, -1], [[0], [1, 3]]])
def test_labels_of_a_file_without_names(labels):
    dataset = Labelled(labels=labels, ann_file='labels.txt')
    if -1 not in labels:
        checks.check_label_range(dataset, dict(head=4), 'train')
    with refused('label (3|-1)', 'labels.txt', 'head has 3 classes', '0 to 2'):
        checks.check_label_range(dataset, dict(head=3), 'train')


@pytest.mark.parametrize('size, batch_size, drop_last, group, facts', [
    (5, 8, True, 1, ['its 5 images', 'batch_size=8', 'at most 5']),
    (5, 64, True, 4, ['its 5 images', 'at most 4, a multiple of 4']),
    (3, 4, True, 4, ['its 3 images', 'at least 4 images']),
    (24, 6, True, 4, ['batch_size is 6', 'multiple of 4']),
    (18, 8, False, 4, ['last batch .* has 2 images', 'drop_last=True']),
    (5, 8, False, 1, []), (24, 8, False, 4, []), (18, 8, True, 4, [])])
def test_batches(size, batch_size, drop_last, group, facts):
    dataset = Labelled(labels=range(size))
    loader = DataLoader(dataset, batch_size, drop_last=drop_last,
                        sampler=DefaultSampler(dataset))
    with expect(facts):
        checks.check_batches(loader, 'train_dataloader', True, group)


def test_batches_of_a_sampler_that_never_ends():
    dataset = Labelled(labels=range(5))
    loader = DataLoader(dataset, 8, drop_last=True, sampler=InfiniteSampler(dataset))
    checks.check_batches(loader, 'train', False, 4)
    with refused('gives no batch'):  # an epoch of it has no step
        checks.check_batches(loader, 'train', True)


def test_fewer_images_than_a_batch_per_process(monkeypatch):
    monkeypatch.setattr('mmengine.dataset.sampler.get_dist_info', lambda: (0, 2))
    monkeypatch.setattr('mixedae_mm.datasets.checks.batches.get_world_size', lambda: 2)
    dataset = Labelled(labels=range(12))
    loader = DataLoader(dataset, 8, drop_last=True, sampler=DefaultSampler(dataset))
    with refused('its 12 images, 6 per process', 'at most 4'):
        checks.check_batches(loader, 'train_dataloader', True, 4)


@pytest.mark.parametrize('topk, facts', [
    ((1, 3), []),
    ((1, 5), ['top-5 accuracy of 3 classes; set its topk to at most 3']),
    *((topk, ['at least 1']) for topk in (0, -1, (), (1, 2.5)))])
def test_topk_that_cannot_be(topk, facts):
    from mmpretrain.evaluation import Accuracy
    with expect(facts, 'val_evaluator'):
        checks.check_topk([Accuracy(topk=topk)], dict(head=3), 'val_evaluator')


@pytest.mark.parametrize('names, is_known', [
    (['mIoU', 'mFscore'], True), (['foo'], False), (['mIoU', 'AP'], False)])
def test_names_of_metrics(names, is_known):
    evaluation = pytest.importorskip('mmseg.evaluation')
    metrics = [SimpleNamespace(), evaluation.IoUMetric(iou_metrics=names)]
    with nullcontext() if is_known else refused(
            'val_evaluator', names[-1], 'mDice'):
        checks.check_iou(metrics, 'val_evaluator')


# COCO


def coco_content(without=(), **changes):
    """One object of the second of three classes, of which some keys are changed."""
    annotation = dict(id=7, image_id=1, bbox=[1, 1, 5, 5], area=25, category_id=2,
                      iscrowd=0)
    return dict(
        images=[dict(id=1, file_name='1.jpg', width=60, height=40)],
        annotations=[{key: value for key, value in {**annotation, **changes}.items()
                      if key not in without}],
        categories=[dict(id=i, name=name) for i, name in enumerate(ANIMALS, 1)])


def object_of(content, number=8, **changes):
    """The content with one more object."""
    content['annotations'] += [dict(content['annotations'][0], id=number, **changes)]
    return content


class CocoDataset(BaseDataset):
    """What the checks see of mmdet's data set."""
    METAINFO = dict(classes=ANIMALS)

    def load_data_list(self):
        content = json.load(open(self.ann_file))
        return [dict(img_path=str(self.data_root) + '/' + image['file_name'],
                     width=image['width'], height=image['height'])
                for image in content['images']]


def coco_dataset(folder, content, size=(60, 40), orientation=1, with_mask=False,
                 **kwargs):
    save(folder / '1.jpg', size, orientation)
    (folder / 'a.json').write_text(
        content if isinstance(content, str) else json.dumps(content))
    dataset = CocoDataset(ann_file='a.json', data_root=str(folder), **kwargs)
    if with_mask:
        dataset.pipeline.transforms = [SimpleNamespace(with_mask=True)]
    return dataset


CROWD = coco_content(iscrowd=1)
NO_ANNOTATIONS = {**coco_content(), 'annotations': None}
del NO_ANNOTATIONS['annotations']
LINE = [1, 1, 6, 6]
TRIANGLE = [1, 1, 6, 1, 6, 6]


@pytest.mark.parametrize('content, settings, facts', [
    (coco_content(without=['iscrowd']), {}, []),
    ('{"images": [', dict(lazy_init=True), ['train', 'JSON']),
    (coco_content(), dict(metainfo=dict(classes=['ant', 'bea', 'cat'])),
     ["no category 'bea'", "did you mean 'bee'", 'ant, bee, cat']),
    # Labels follow the file.
    (coco_content(), dict(metainfo=dict(classes=ANIMALS[::-1])),
     ["label 0 is 'ant'", 'ant, bee, cat']),
    (coco_content(), dict(metainfo=dict(classes=['ant', 'bee', 'bee'])),
     ["'bee' 1 times", 'names it 2 times']),
    (dict(coco_content(), categories=[dict(id=i, name='ant') for i in (1, 2)]),
     dict(metainfo=dict(classes=['ant'])), ["'ant' 2 times", 'names it 1 times']),
    # mmdet's panoptic data sets inherit how `CocoDataset` lists images.
    (dict(coco_content(), annotations=[dict(
        image_id=1, file_name='1.png', segments_info=[])]), {}, []),
    (NO_ANNOTATIONS, {}, ["no 'annotations'"]),
    (NO_ANNOTATIONS, dict(test_mode=True), []),
    (CROWD, {}, ['All 1 annotations', 'iscrowd']),
    (CROWD, dict(test_mode=True), []),
    (object_of(coco_content(iscrowd=1), iscrowd=0), {}, []),
    (coco_content(category_id=99), dict(filter_cfg=dict(filter_empty_gt=True)),
     ['Not one of the 1 images', 'filter_empty_gt']),
    # Objects without a mask, where masks are loaded, and polygons of two points.
    (coco_content(), dict(with_mask=True),
     ['Annotation 7', "no 'segmentation'", 'with_mask=True']),
    *((coco_content(segmentation=polygons), dict(with_mask=True, test_mode=test_mode),
       ['Annotation 7', 'three points'] if is_refused else [])
      for polygons, test_mode, is_refused in (
          ([LINE], False, True), ([[1, 1, 6, 1, 6]], False, True),
          ([LINE, TRIANGLE], False, False),
          ([LINE, TRIANGLE], True, True),  # the metric fails
          ([TRIANGLE], True, False),
          (dict(size=[40, 60], counts=[2400]), True, False)))])
def test_annotation_files(tmp_path, content, settings, facts):
    dataset = coco_dataset(tmp_path, content, **settings)
    with expect(facts, 'a.json'):
        checks.check_coco(SampleSeededDataset(dataset) if not facts else dataset,
                          'train')
    checks.check_coco(Labelled(classes=ANIMALS), 'train')


@pytest.mark.parametrize('changes, facts', [
    (dict(without=['image_id']), ['id 7', "no 'image_id'"]),
    (dict(without=['area']), ['id 7', "no 'area'"]),
    (dict(without=['bbox']), ['id 7', "no 'bbox'"]),
    (dict(without=['category_id']), ['id 7', "no 'category_id'"]),
    (dict(bbox=[1, 2, 3]), ['[1, 2, 3]']), (dict(area='12'), ["'12'"])])
def test_incomplete_annotations(changes, facts):
    with refused('a.json', *facts):
        coco.check_content(coco_content(**changes), 'a.json', coco.SECTIONS)


@pytest.mark.parametrize('section, entries, facts', [
    ('annotations', None, ['list']), ('annotations', ['x'], ['list']),
    ('categories', [dict(id=1)], ["no 'name'"]),
    # One of two would be left out, with the objects of both on the other.
    *((section, 2 * coco_content()[section][:1], ['2 entries', section, 'have the id'])
      for section in ('images', 'annotations', 'categories'))])
def test_sections_that_are_something_else(section, entries, facts):
    content = dict(coco_content(), **{section: entries})
    with refused('a.json', *facts):
        coco.check_content(content, 'a.json', coco.SECTIONS)
    del content[section]
    with refused('a.json', f"no '{section}'"):
        coco.check_content(content, 'a.json', coco.SECTIONS)


@pytest.mark.parametrize('changes, facts', [
    *((changes, ['1 of 2 objects', 'annotation 8']) for changes in (
        dict(bbox=[60, 1, 5, 5]), dict(bbox=[1, 1, 0, 0]), dict(image_id=2))),
    (dict(category_id='2'), ['1 of 2 annotations', "such as 8 with category_id='2'"])])
def test_objects_that_are_left_out_are_counted(tmp_path, warned, changes, facts):
    content = object_of(coco_content(), **changes)
    checks.check_coco(coco_dataset(tmp_path, content), 'train')
    assert all(fact in warned[0] for fact in facts)
    if 'category_id' not in changes:
        content['annotations'] = content['annotations'][1:]
        with refused('a.json', 'annotation 8|image_id'):
            checks.check_coco(coco_dataset(tmp_path, content), 'train')


@pytest.mark.parametrize('content, classes, facts', [
    (coco_content(), ANIMALS, []),
    (coco_content(), ['ant', 'dog'], ["no category 'dog'"]),
    (coco_content(without=['iscrowd']), ANIMALS, ["no 'iscrowd'", 'id 7']),
    (object_of(coco_content(), number=0), ANIMALS, ['id 0', 'pycocotools'])])
def test_file_of_the_metric(content, classes, facts):
    checks.check_coco_metric(SimpleNamespace(), classes, 'val.json')  # without a file
    api = SimpleNamespace(dataset=content)
    with expect(facts, 'val.json'):
        checks.check_coco_metric(SimpleNamespace(_coco_api=api), classes, 'val.json')
    checks.check_coco_metric(
        SimpleNamespace(_coco_api=api, format_only=True), classes, 'val.json')


@pytest.mark.parametrize('size, orientation, facts', [
    ((30, 20), 1, ['says 60 x 40', 'has 30 x 20']),
    ((60, 40), 6, ['says 60 x 40', 'has 40 x 60', 'EXIF']),
    ((40, 60), 6, [])])  # annotated as it is shown, which is how it is loaded
def test_image_of_another_size_than_annotated(tmp_path, size, orientation, facts):
    dataset = coco_dataset(tmp_path, coco_content(), size, orientation,
                           pipeline=[dict(type='LoadImageTensor')])
    with expect(facts, 'a.json'):
        checks.check_samples(dataset, 'train')


# Samples, loaded by the pipeline


def write_pair(folder, values=(0, 1), image_size=(60, 40), orientation=1,
               dtype=np.uint8):
    save(folder / 'a.jpg', image_size, orientation)
    save(folder / 'a.png', np.resize(np.array(values, dtype), (40, 60)))


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


@pytest.mark.parametrize('values, num_classes, reduced, facts', [
    ([0, 1, 255], 2, False, []), ([0, 1, 2], 2, True, []),
    ([0, 11], 11, False, ['label 11', '0 to 10', 'reduce_zero_label']),
    ([1, 12], 11, True, ['label 12', '0 to 10'])])
def test_labels_that_a_head_predicts(tmp_path, values, num_classes, reduced, facts):
    write_pair(tmp_path, values)
    with expect(facts, f'{tmp_path}/a.png', '11 classes'):
        check_masks(tmp_path, num_classes, reduce_zero_label=reduced)


@pytest.mark.parametrize('values, size, facts', [
    ([0, 11], (60, 40), ['label 11']), ([0, 1], (50, 40), ['has 60 x 40'])])
def test_masks_outside_the_sample_are_refused_when_they_are_loaded(
        tmp_path, values, size, facts):
    write_pair(tmp_path)
    dataset = check_masks(tmp_path, 2)
    assert dataset[0]['gt_seg_map'].max() == 1
    write_pair(tmp_path, values, size)
    with refused(f'{tmp_path}/a.png', *facts):
        dataset[0]


def test_a_foreground_that_is_ignored_is_warned_of(tmp_path, warned):
    write_pair(tmp_path)
    check_masks(tmp_path)
    check_masks(tmp_path, reduce_zero_label=True)  # loaded as 255 and 0
    assert not warned
    write_pair(tmp_path, [0, 255])
    check_masks(tmp_path)
    assert 'write it as 1' in warned[0]


@pytest.mark.parametrize('values, facts', [
    ([0, 1, 255], []), ([0, 257], ['a.png', 'value 257', 'read as 1', '8 bits'])])
def test_masks_of_16_bits(tmp_path, values, facts):
    write_pair(tmp_path, values, dtype=np.uint16)
    with expect(facts):
        check_masks(tmp_path)


def test_masks_of_colours(tmp_path):
    write_pair(tmp_path)
    save(tmp_path / 'a.png', (60, 40))
    with refused('a.png', '3 channels'):
        check_masks(tmp_path)


@pytest.mark.parametrize('file', ['a.png', 'a.jpg'])
def test_files_that_are_no_images(tmp_path, file):
    write_pair(tmp_path)
    (tmp_path / file).write_text('not an image')
    with refused('train', 'Load', f'{tmp_path}/{file}'):
        check_masks(tmp_path)


@pytest.mark.parametrize('image, facts', [
    (dict(image_size=(30, 20)), ['a.jpg has 30 x 20']),
    (dict(orientation=6), ['has 40 x 60', 'EXIF'])])
def test_masks_of_another_size(tmp_path, image, facts):
    write_pair(tmp_path, **image)
    with refused('a.png has 60 x 40', *facts):
        check_masks(tmp_path)


def test_samples_are_looked_at_over_the_whole_set(tmp_path):
    save(tmp_path / '0.jpg', (9, 9))
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


def write_images(folder, *names):
    for name in names:
        save(folder / name, (9, 9), format='JPEG')


def test_images_by_another_name(tmp_path, warned):
    folder = str(tmp_path)
    with refused(folder, 'no file that ends in .jpg', 'img_suffix'):
        empty.check_suffix(folder, ['.jpg'], 'train', 'img_suffix')
    (tmp_path / 'a.npy').touch()
    empty.check_suffix(folder, ['.npy'], 'train', 'img_suffix')
    (tmp_path / 'a.npy').rename(tmp_path / 'a.NPY')
    empty.check_suffix(folder, ['.npy'], 'train', 'extensions', ignore_case=True)
    with refused('no file that ends in .npy'):
        empty.check_suffix(folder, ['.npy'], 'train', 'img_suffix')
    with refused('no file that ends in .jpg', '1 .npy'):
        empty.check_suffix(folder, ['.jpg'], 'train', 'img_suffix')
    write_images(tmp_path, 'a.JPG', 'b.JPG', 'c.jpg')
    empty.check_suffix(folder, ['.jpg'], 'train', 'img_suffix')
    assert '2 .JPG (a.JPG, b.JPG)' in warned[0] and '.jpg' in warned[0]
    empty.check_suffix(folder, ['.NPY'], 'train', 'img_suffix')  # of which one is left
    assert '2 .JPG' in warned.pop()
    with refused('2 .JPG', '1 .jpg', 'img_suffix takes only', '.png'):
        empty.check_suffix(folder, ['.png'], 'train', 'img_suffix')
    empty.check_suffix(folder, ['.jpg'], 'x', 'extensions', ignore_case=True)
    assert len(warned) == 1


def test_images_that_a_set_leaves_out_are_named(tmp_path, warned):
    """Of sets that are not empty, too."""
    write_images(tmp_path, 'ant/a.jpg', 'ant/b.webp')
    dataset = DATASETS.build(dict(
        type='mmpretrain.CustomDataset', data_root=str(tmp_path)))
    assert len(dataset) == 1
    checks.check_left_out(SampleSeededDataset(dataset), 'train')
    assert '1 .webp (ant/b.webp)' in warned[0] and 'left out' in warned[0]


SEGMENTED = dict(type='mmseg.BaseSegDataset', metainfo=dict(classes=['a']))
CLASSIFIED = dict(type='mmpretrain.CustomDataset')


@pytest.mark.parametrize('config, name, facts', [
    (dict(SEGMENTED, data_prefix=dict(img_path='')), 'a.JPG',
     ['1 .JPG', 'img_suffix', 'not one image']),
    (dict(SEGMENTED, ann_file='train.txt'), None, ['no samples', 'train.txt']),
    (CLASSIFIED, 'a.jpg', ['folder of images for each class']),
    (CLASSIFIED, 'ant/a.webp', ['1 .webp', 'extensions', '.jpeg'])])
def test_why_a_data_set_is_empty(tmp_path, config, name, facts):
    pytest.importorskip(f'{config["type"].partition(".")[0]}.datasets')
    write_images(tmp_path, *filter(None, [name]))
    (tmp_path / 'train.txt').touch()
    dataset = dict(type='RepeatDataset', times=2,
                   dataset=dict(config, data_root=str(tmp_path)))
    with refused('train_dataloader', str(tmp_path), *facts):
        empty.explain_failure(dataset, 'train_dataloader')


def test_no_samples():
    with refused('has no samples'):
        checks.check_not_empty(torch.utils.data.Subset(Labelled(), []), 'train')
