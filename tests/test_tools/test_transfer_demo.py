"""The transfer demo: which trainings it is made of, what it draws."""
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from demo import make_scene_folder
from reproduce.training_run import START
from transfer import fine_tunings as demo, pictures
from transfer.pictures import most_certain

CLASSIFICATION, SEGMENTATION, BY_HEART, DETECTION = demo.TASKS.values()


@pytest.mark.parametrize('task, options, steps, checkpoint', [
    (SEGMENTATION, {'train_cfg.max_iters': 30}, 30, 'iter_30.pth'),
    (CLASSIFICATION, {'train_cfg.max_epochs': 3,
                      'train_dataloader.batch_size': 4}, 9, 'epoch_3.pth'),
])
def test_length(tmp_path, task, options, steps, checkpoint):
    """By steps or by epochs, of which the last may have a smaller batch."""
    run = demo.fine_tuning(task, demo.RANDOM, None, tmp_path, 11, tmp_path, options)
    assert run.training.steps == steps
    assert run.training.checkpoint == (
        tmp_path / f'{task.name}_random' / checkpoint)
    assert run.training.data == tmp_path / task.data


def test_starting_points(tmp_path):
    def setting(start, checkpoint, needs=None):
        run = demo.fine_tuning(SEGMENTATION, start, checkpoint, tmp_path, 11,
                               tmp_path, {}, needs)
        return run.training.options, run.training.setting()

    weights = tmp_path / 'a.pth'
    torch.save(dict(state_dict=dict(weight=torch.zeros(1))), weights)
    options, random = setting(demo.RANDOM, None)
    assert options == {'model.backbone.init_cfg': None}
    assert random['model.backbone.init_cfg'] is None and START not in random
    options, mixedae = setting(demo.MIXEDAE, weights)
    assert options == {START: str(weights)} and START in mixedae
    mae = demo.mae_pretraining(tmp_path / 'mae', tmp_path, 40, 8)
    _, from_mae = setting(demo.MAE, mae.checkpoint, mae)
    changed = set(mixedae.items()) ^ set(from_mae.items())
    assert {key for key, _ in changed} == {START}


@pytest.mark.parametrize('steps, warmup', [(40, 4), (1800, 100)])
def test_mae_is_trained_as_long_as_the_demo(tmp_path, steps, warmup):
    run = demo.mae_pretraining(tmp_path, tmp_path, steps, 64)
    config = Config.fromfile(run.config)
    config.merge_from_dict(run.options)
    first, decay = config.param_scheduler
    assert config.train_cfg.max_iters == decay.end == run.steps == steps
    assert first.end == decay.begin == warmup
    assert run.last_checkpoint == f'iter_{steps}.pth'
    # Everything else is MixedAE's, whose demo has 1800 steps.
    mixedae = Config.fromfile(demo.CONFIGS.parent / 'mixedae_vit-tiny_demo.py')
    assert config.train_dataloader == mixedae.train_dataloader
    assert config.optim_wrapper == mixedae.optim_wrapper
    if steps == mixedae.train_cfg.max_iters:
        assert config.param_scheduler == mixedae.param_scheduler


def test_results_are_percent(tmp_path):
    run = demo.fine_tuning(DETECTION, demo.MAE, None, tmp_path, 11, tmp_path, {})
    log = run.training.folder / '20260101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text(json.dumps(
        {'coco/bbox_mAP': 0.25, 'coco/segm_mAP': 0.5, 'step': 4}))
    assert run.results() == {'box AP': 25.0, 'mask AP': 50.0}


def test_the_detector_is_tested_on_what_its_column_says():
    for task, split in ((BY_HEART, 'train2017'), (DETECTION, 'val2017')):
        config = Config.fromfile(demo.CONFIGS / task.config)
        for loader in (config.val_dataloader, config.test_dataloader):
            assert loader.dataset.ann_file == f'annotations/instances_{split}.json'
            assert loader.dataset.data_prefix.img.startswith(split)
        assert config.val_evaluator.ann_file.endswith(f'instances_{split}.json')
        assert ('by heart' in next(iter(task.metrics))) == (split == 'train2017')


@pytest.mark.parametrize('number, places', [
    (0, []), (2, [0, 2]), (9, [3, 1, 0, 2])])
def test_the_most_certain_objects_lie_on_top(number, places):
    scores = torch.tensor([0.3, 0.2, 0.9, 0.1])
    objects = most_certain(InstanceData(scores=scores, labels=torch.arange(4)), number)
    assert objects.labels.tolist() == places


def mirrored(truth, width):
    """What a detector finds that sees images in a mirror, and what it doubts."""
    boxes, masks = truth.bboxes.tensor, truth.masks.masks[..., ::-1].copy()
    boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0],
                         boxes[:, 3]], 1)
    every = [*range(len(boxes)), 0]
    return InstanceData(bboxes=boxes[every], masks=torch.from_numpy(masks[every] > 0),
                        labels=truth.labels[every],
                        scores=torch.linspace(0.9, 0.1, len(every)))


def test_objects_are_drawn_where_the_annotations_have_them(tmp_path, monkeypatch):
    """The truth, of data that were moved, and what a model finds."""
    pytest.importorskip('mmcv._ext')
    pytest.importorskip('mmdet')
    from pycocotools.coco import COCO
    make_scene_folder(str(tmp_path / 'moved/dozen'), 2, 1, size=64, max_objects=3,
                      classes=demo.CLASSES, radii=(0.16, 0.28))
    run = demo.fine_tuning(BY_HEART, demo.MIXEDAE, None, tmp_path / 'moved', 2,
                           tmp_path, {})
    saved = Config.fromfile(demo.CONFIGS / BY_HEART.config)  # with the paths of before
    meta = saved.val_dataloader.dataset.metainfo

    def test_step(batch):
        sample, = batch['data_samples']
        sample.pred_instances = mirrored(sample.gt_instances, sample.ori_shape[1])
        return [sample]

    monkeypatch.setattr(pictures, 'fine_tuned', lambda _: (
        SimpleNamespace(test_step=test_step), saved, meta))
    image, truth, found, *_ = pictures.draw_predictions([run]).axes
    assert [axes.get_title() for axes in (image, truth, found)] == [
        'image', 'truth', 'MixedAE']
    coco = COCO(str(tmp_path / 'moved/dozen/coco/annotations/instances_train2017.json'))
    pixels = np.asarray(image.images[0].get_array())
    height, width, _ = pixels.shape
    objects = coco.imgToAnns[1]
    assert len(objects) >= 2
    for axes, mirror in ((truth, False), (found, True)):
        expected, boxes = pixels.copy(), []
        for entry in objects:
            left, top, right, bottom = np.add(entry['bbox'], [0, 0, *entry['bbox'][:2]])
            mask = coco.annToMask(entry).astype(bool)
            if mirror:
                left, right, mask = width - right, width - left, mask[:, ::-1]
            boxes.append([left, top, right, bottom])
            colour = np.array(meta.palette[entry['category_id'] - 1])
            expected[mask] = 0.45 * pixels[mask] + 0.55 * colour
        np.testing.assert_array_equal(axes.images[0].get_array(), expected)
        drawn = [[line.get_xdata()[0], line.get_ydata()[0], line.get_xdata()[1],
                  line.get_ydata()[2]] for line in axes.lines]
        assert sorted(drawn) == sorted(boxes)
    assert not truth.texts
    scores = [f'{score:.2f}' for score in np.linspace(0.9, 0.1, len(objects) + 1)]
    assert [text.get_text() for text in found.texts] == scores[-2::-1]
