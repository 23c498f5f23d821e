"""The transfer demo: which trainings it is made of, what it draws."""
import json

import pytest
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from reproduce.training_run import START
from transfer import fine_tunings as demo
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
