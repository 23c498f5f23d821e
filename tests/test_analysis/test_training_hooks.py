"""Hooks that look at a training run without changing it."""
import random
import time
import uuid
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from mmengine.visualization import MLflowVisBackend
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import Dataset

from mixedae_mm.analysis import evaluating, sample_images
from mixedae_mm.analysis.run_log import layer_accuracies, read_run
from mixedae_mm.engine import (KNNEvaluationHook, MixingVisualizationHook,
                               ThroughputHook, TopKAccuracyHook)
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.machine import pytorch_is
from small_models import MAE, MODEL
from waiting import WaitsHook

RUN_HOOKS = Path(__file__).parents[2] / 'configs/_base_/run_hooks.py'
BATCH_SIZE = 8
DROPPING = dict(MODEL, backbone=dict(MODEL['backbone'], drop_rate=0.1))
WATCHING = [
    dict(type='ThroughputHook'),
    dict(type='TopKAccuracyHook', interval=2, num_images=8),
    dict(type='MixingVisualizationHook', interval=3),
]


@DATASETS.register_module()
class NoisyImages(Dataset):
    """Images that each generator has a part in, as augmentations have."""

    def __len__(self):
        return 24

    def __getitem__(self, index):
        shift = random.randrange(9) + np.random.randint(9)
        image = torch.randint(0, 200, (3, 16, 16)) + index + shift
        return dict(inputs=image.to(torch.uint8), data_samples=index)


def train(work_dir, custom_hooks, max_iters=5, model=DROPPING, optim_wrapper=dict(
              optimizer=dict(type='AdamW', lr=1e-3)), checkpoint=dict(
                  type='CheckpointHook', interval=3, by_epoch=False), **settings):
    """A short training run with random numbers in every part of it."""
    config = dict(
        model=model,
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=BATCH_SIZE,
            num_workers=0,
            sampler=dict(type='InfiniteSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
            dataset=dict(type='NoisyImages')),
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=max_iters),
        optim_wrapper=optim_wrapper,
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=2), checkpoint=checkpoint),
        custom_hooks=custom_hooks,
        log_processor=dict(by_epoch=False),
        visualizer=dict(
            type='Visualizer', vis_backends=[dict(type='LocalVisBackend')]),
        log_level='ERROR',
        randomness=dict(seed=3),
        default_scope='mmpretrain',
        # Two runs within a second would share mmengine's global visualizer.
        experiment_name=str(uuid.uuid4()),
        **settings)
    runner = Runner.from_cfg(Config(config))
    runner.train()
    return runner


@pytest.fixture(scope='module')
def watched(tmp_path_factory):
    return train(tmp_path_factory.mktemp('watched'), WATCHING)


def test_watching_changes_nothing(watched, tmp_path):
    unwatched = train(tmp_path / 'unwatched', [])
    expected = unwatched.model.state_dict()
    weights = watched.model.state_dict()
    assert weights.keys() == expected.keys()
    for name, value in weights.items():
        assert torch.equal(value, expected[name]), name
    for name in ('loss_recon', 'loss_homocon'):
        assert (read_run(watched.work_dir)[name][1] == read_run(
            unwatched.work_dir)[name][1]).all()


@pytest.mark.skipif(not pytorch_is('2.4'), reason='no fused AdamW on a CPU')
def test_a_step_with_the_hooks_of_the_configs_never_waits(tmp_path):
    """But for one read of all numbers, after the step, if the optimizer is fused."""
    hooks = Config.fromfile(RUN_HOOKS).run_hooks
    for fused in (False, True):
        optimizer = dict(type='AdamW', lr=1e-3, fused=fused)
        train(tmp_path, [*hooks, dict(type='WaitsHook')],
              optim_wrapper=dict(optimizer=optimizer),
              checkpoint=dict(type='SafeCheckpointHook', by_epoch=False))
        assert len(WaitsHook.found) == 5
        assert not any(WaitsHook.found) if fused else all(WaitsHook.found)


def test_curves_and_pictures(watched):
    curves = layer_accuracies(read_run(watched.work_dir))
    assert sorted(curves) == [1, 2, 3]
    for steps, values in curves.values():
        assert steps.tolist() == [0, 2, 4, 5]  # untrained, ..., at the end
        assert (0 < values).all() and (values < 100).all()
    logs = read_run(watched.work_dir)
    steps, images_per_second = logs['images_per_second']
    assert steps.tolist() == [2, 4] and (images_per_second > 0).all()
    if not torch.cuda.is_available():
        assert (logs['memory'][1] > 50).all()  # MB; PyTorch alone takes more
    pictures = sorted(Path(watched.work_dir).glob('*/vis_data/vis_image/*'))
    assert [path.name for path in pictures] == ['mixing_3.png', 'mixing_5.png']


@pytest.mark.parametrize('start', [0, 40])
@pytest.mark.parametrize('steps, counted', [(1, 1), (3, 1), (4, 1), (6, 3), (9, 4)])
def test_throughput_leaves_out_the_first_iterations_after_a_start(
        start, steps, counted):
    """After ``steps`` iterations with a line for every four, ``counted`` of them."""
    hook, hub = ThroughputHook(), MessageHub(str(uuid.uuid4()))
    runner = SimpleNamespace(
        iter=start, message_hub=hub, hooks=[LoggerHook(interval=4)])
    hook.before_train(runner)
    seconds = torch.rand(start + steps).tolist()
    for second in seconds:
        hub.update_scalar('train/time', second)
    runner.iter = start + steps - 1  # mmengine counts after its hooks
    hook.after_train_iter(runner, 3, dict(inputs=[None] * BATCH_SIZE))
    assert hub.get_scalar('train/images_per_second').current() == pytest.approx(
        BATCH_SIZE / np.mean(seconds[-counted:]), abs=.06)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(torch.compiler, 'set_stance'),
                    reason='CompileHook needs PyTorch 2.6')
def test_a_compiled_model_trains_the_same(tmp_path):
    """And what looks at its parts still sees them."""
    # Without dropout: compiled code draws other random numbers.
    plain = train(tmp_path / 'plain', WATCHING, model=MODEL)
    compiled = train(tmp_path / 'compiled', WATCHING + [
        dict(type='CompileHook', enabled=True)], model=MODEL)
    expected, found = (read_run(run.work_dir) for run in (plain, compiled))
    assert expected.keys() == found.keys()
    for name in ('loss_recon', 'loss_homocon'):
        np.testing.assert_allclose(found[name][1], expected[name][1], rtol=1e-4)
    for layer, (_, values) in layer_accuracies(expected).items():
        np.testing.assert_allclose(
            layer_accuracies(found)[layer][1], values, atol=1)


def test_a_resumed_run_measures_on_the_same_images(watched, tmp_path):
    work_dir = tmp_path / 'resumed'
    train(work_dir, WATCHING, max_iters=3)
    time.sleep(1.1)  # mmengine names the folder of a run by the second
    train(work_dir, WATCHING, max_iters=5, resume=True)
    first, resumed = [
        layer_accuracies(read_run(file))
        for file in sorted(work_dir.glob('*/vis_data/scalars.json'))
    ]
    assert first[1][0].tolist() == [0, 2, 3]
    assert resumed[1][0].tolist() == [4, 5]
    untrained = layer_accuracies(read_run(watched.work_dir))
    for layer, (_, values) in first.items():
        assert values[:2].tolist() == untrained[layer][1][:2].tolist()


def test_random_generators_and_modes_stay(watched):
    """Also after an error."""
    model = watched.model
    model.train()
    model.backbone.layers[1].eval()

    def state():
        return (random.getstate(), str(np.random.get_state()),
                torch.get_rng_state().tolist(),
                {name: m.training for name, m in model.named_modules()})

    before = state()
    for hook in (TopKAccuracyHook(interval=1, num_images=8),
                 MixingVisualizationHook(interval=1)):
        hook.before_train(watched)
        hook.probe(watched, model, step=7)
    with pytest.raises(RuntimeError, match='within'):
        with evaluating(model):
            assert not model.backbone.training
            raise RuntimeError('an error within')
    assert state() == before


def test_sampled_images_are_the_same_every_time(watched):
    first, again, other = (
        sample_images(watched.train_dataloader, 6, seed) for seed in (1, 1, 2))
    assert first.shape == (6, 3, 16, 16)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert len(sample_images(watched.train_dataloader, 100, seed=1)) == 24


def test_only_the_first_process_measures(watched, monkeypatch):
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    for hook in (TopKAccuracyHook(), MixingVisualizationHook()):
        monkeypatch.setattr(
            hook, 'probe', lambda *args, **kwargs: pytest.fail('measured'))
        hook.before_train(watched)
        assert hook.images is None
        for _ in range(5):
            hook.after_train_iter(watched, 4)


@pytest.mark.parametrize('hook', [TopKAccuracyHook(), KNNEvaluationHook({}, {})])
def test_sharded_models_are_left_alone(watched, monkeypatch, hook):
    sharded = FullyShardedDataParallel.__new__(FullyShardedDataParallel)
    monkeypatch.setattr(watched, 'model', sharded)
    warnings = []
    monkeypatch.setattr(watched.logger, 'warning', warnings.append)
    hook.before_train(watched)
    monkeypatch.setattr(watched, 'model', None)
    hook.after_train_iter(watched, 0)  # does not build, load or measure anything
    assert len(warnings) == 1 and 'FSDP' in warnings[0]


def test_strategies_of_others_do_not_switch_hooks_off(watched, monkeypatch):
    monkeypatch.setattr(watched, 'strategy', object(), raising=False)
    hook = TopKAccuracyHook()
    hook.before_train(watched)
    assert hook.images is not None


def test_models_that_do_not_mix_can_be_measured(tmp_path):
    train(tmp_path, [dict(type='TopKAccuracyHook', interval=2)], 2, model=MAE)
    steps, values = layer_accuracies(read_run(tmp_path))[3]
    assert steps.tolist() == [0, 2] and (10 < values).all()


def test_settings_that_cannot_work_are_refused(watched):
    for settings in (dict(interval=0), dict(num_images=0)):
        with pytest.raises(ConfigurationError, match='Hook is 0, .* at least 1'):
            TopKAccuracyHook(**settings)
    with pytest.raises(ConfigurationError, match='at least 4 images'):
        hook = TopKAccuracyHook(num_images=3)
        hook.before_train(watched)
        hook.probe(watched, watched.model, step=1)
    with pytest.raises(ConfigurationError, match='interval'):
        MixingVisualizationHook(interval=-5)


def test_pictures_reach_mlflow_as_files_of_their_own(watched, monkeypatch, tmp_path):
    """Its backend takes the name for a file name, and ignores the step."""
    written = []
    backend = MLflowVisBackend(str(tmp_path))
    monkeypatch.setattr(
        backend, 'add_image', lambda name, image, step, **kwargs: written.append(name))
    monkeypatch.setitem(watched.visualizer._vis_backends, 'mlflow', backend)
    hook = MixingVisualizationHook()
    hook.before_train(watched)
    for step in (3, 6):
        hook.probe(watched, watched.model, step=step)
    assert written == ['mixing_3.png', 'mixing_6.png']


def test_mixing_pictures_of_another_model_are_refused(watched, monkeypatch):
    monkeypatch.setattr(watched, 'model', torch.nn.Linear(1, 1))
    with pytest.raises(ConfigurationError, match='not a Linear'):
        MixingVisualizationHook().before_train(watched)
