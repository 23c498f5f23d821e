"""A run that was killed and resumed equals one that was not, bit for bit."""
from types import SimpleNamespace

import pytest
import toy_training as toy
import torch
from mmengine.optim import OptimWrapper
from toy_training import ENDLESS, MID_EPOCH, kill
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from mixedae_mm.engine.resume import exact_resume_hook
from mixedae_mm.engine.resume.gradient_buckets import settle_gradient_buckets
from mixedae_mm.engine.resume.run_setting import check_optimizer_state
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.machine import pytorch_is

SETTINGS = {'epochs': {}, 'mid-epoch checkpoints': MID_EPOCH,
            'iterations': dict(loop='iteration'), 'endless sampler': ENDLESS}
LOOPS = pytest.mark.parametrize('setting', SETTINGS.values(), ids=SETTINGS)
CUTS = pytest.mark.parametrize('setting', [MID_EPOCH, ENDLESS],
                               ids=['epochs', 'endless sampler'])


@LOOPS
@pytest.mark.parametrize('iteration, stage', [
    (10, 'after_train_iter'), (20, 'after_train_iter'), (13, 'before_save_checkpoint'),
    (14, 'after_val_iter'), (21, 'before_val_epoch')])
def test_one_kill(tmp_path, check_same, setting, iteration, stage):
    assert toy.train(tmp_path, **kill(iteration, stage), **setting) is None
    assert toy.train(tmp_path, resume=True, **setting)
    check_same(tmp_path, **setting)


@LOOPS
def test_many_kills(tmp_path, check_same, setting):
    for iteration in (1, 8, 9, 16, 19):
        assert toy.train(tmp_path, resume=True, **kill(iteration), **setting) is None
    assert toy.train(tmp_path, resume=True, **setting)
    check_same(tmp_path, **setting)


def test_without_the_hook_the_runs_differ(tmp_path, uninterrupted):
    """The control: the toy run notices what the hook is there for."""
    setting = dict(MID_EPOCH, without='ExactResumeHook')
    assert toy.train(tmp_path, **kill(), **setting) is None
    assert toy.train(tmp_path, resume=True, **setting)
    cut, whole = toy.result(tmp_path), uninterrupted(**setting)
    assert cut['weights'] != whole['weights']
    assert cut['losses'] != whole['losses']  # the order of the images among them


@CUTS
def test_workers_change_nothing(tmp_path, check_same, setting):
    """Neither their number nor a change of it, nor a kill in between."""
    assert toy.train(tmp_path, workers=2, **kill(), **setting) is None
    assert toy.train(tmp_path, workers=1, resume=True, **kill(16), **setting) is None
    assert toy.train(tmp_path, workers=2, resume=True, **setting)
    check_same(tmp_path, **setting)


@CUTS
def test_two_processes(tmp_path, check_same, setting):
    """The toy set halves: 4 batches each; windows of 2, cut by checkpoints."""
    assert 9 in toy.train_processes(tmp_path, 2, **kill(8), **setting)
    assert toy.train_processes(tmp_path, 2, resume=True, **setting) == [0, 0]
    check_same(tmp_path, processes=2, **setting)


@pytest.mark.slow
@pytest.mark.parametrize('settled', [True, False], ids=['exact', 'control'])
def test_three_processes(tmp_path, monkeypatch, uninterrupted, settled):
    """Among three, it matters in which order DDP adds; the control shows it."""
    setting = dict(MID_EPOCH, size=36, accumulative_counts=1)
    whole = uninterrupted(processes=3, **setting)  # never under the patch
    if not settled:
        monkeypatch.setattr(exact_resume_hook, 'settle_gradient_buckets',
                            lambda model: True)
    assert 9 in toy.train_processes(tmp_path, 3, **kill(4), **setting)
    assert toy.train_processes(tmp_path, 3, resume=True, **setting) == [0] * 3
    cut = toy.result(tmp_path)
    assert cut == whole if settled else cut['weights'] != whole['weights']


@pytest.mark.skipif(not pytorch_is('2.4'),
                    reason='PyTorch 2.1 may hang where it destroys a group')
def test_gradient_buckets_of_ddp_on_a_gpu():
    """There DDP moves its arguments to the device of the process, here to cpu:0."""
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        model = DistributedDataParallel(toy.ToyModel())
        model.device_ids = [0]
        assert settle_gradient_buckets(model)
    finally:
        torch.distributed.destroy_process_group()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_evaluation_does_not_disturb_training(tmp_path, uninterrupted):
    assert toy.train(tmp_path, val_dataloader=None, val_cfg=None, val_evaluator=None)
    assert toy.result(tmp_path)['weights'] == uninterrupted()['weights']


@pytest.mark.parametrize('repeat, evaluations', [(True, 2), (False, 1)])
def test_an_evaluation_can_be_left_out(tmp_path, repeat, evaluations):
    """Of epochs 1 and 2; the last checkpoint is from before that of epoch 3."""
    assert toy.train(tmp_path, **kill(14, 'before_val_epoch')) is None
    hook = dict(type='ExactResumeHook', repeat_evaluation=repeat)
    assert toy.train(tmp_path, resume=True, custom_hooks=[
        hook, dict(type='EMAHook', momentum=0.1), dict(type='DigestHook')])
    assert len(toy.history(tmp_path)['val/mean']) == evaluations


def test_what_is_loaded_and_what_is_saved(tmp_path):
    setting = dict(MID_EPOCH, accumulative_counts=4)
    assert toy.train(tmp_path, **kill(), **setting) is None
    # Our state is plain, and has the gradients of one process, in an open window.
    torch.save(toy.newest(tmp_path)['exact_resume'], tmp_path / 'ours')
    ours = torch.load(tmp_path / 'ours', weights_only=True)
    assert ours['total_batch'] == 4 and len(ours['gradients']) == 1
    # Checkpoint after 9 iterations: 2 batches into the second epoch.
    runner = toy.train(tmp_path, resume=True, **setting)
    loaded = runner.train_dataloader.dataset.loaded
    assert len(loaded) == (toy.SIZE - 8) + toy.SIZE


def test_an_unset_seed_is_kept_over_a_restart(tmp_path):
    assert toy.train(tmp_path, seed=None, **kill(), **MID_EPOCH) is None
    first = toy.logged(tmp_path)
    assert toy.train(tmp_path, seed=None, resume=True, **MID_EPOCH)
    again = toy.logged(tmp_path)
    assert first and all(again[step] == first[step] for step in first)


def test_flexible_runner(tmp_path, check_same):
    """The runner of FSDP and DeepSpeed, here with one device."""
    # It loads before hooks are ready, which mmengine's EMAHook cannot bear.
    setting = dict(MID_EPOCH, without='EMAHook', runner_type='FlexibleRunner',
                   strategy=dict(type='SingleDeviceStrategy'))
    assert toy.train(tmp_path, **kill(), **setting) is None
    assert toy.train(tmp_path, resume=True, **setting)
    check_same(tmp_path, **setting)


@pytest.mark.parametrize('kind, options', [
    (torch.optim.AdamW, dict()), (torch.optim.SGD, dict(lr=0.1, momentum=0.9))])
def test_a_parameter_that_was_fitted_to_another_size_is_named(kind, options):
    """As the positions are when the image size changes."""
    model, other = nn.Linear(3, 2), nn.Linear(4, 2)
    for trained in (model, other):
        optimizer = kind(trained.parameters(), **options)
        trained(torch.ones(1, trained.in_features)).sum().backward()
        optimizer.step()
        if trained is model:
            state = optimizer.state_dict()
    runner = SimpleNamespace(model=other, optim_wrapper=OptimWrapper(optimizer))
    check_optimizer_state(runner)
    optimizer.load_state_dict(state)
    with pytest.raises(ConfigurationError, match=r'weight .*\(2, 4\).*\(2, 3\)'):
        check_optimizer_state(runner)
