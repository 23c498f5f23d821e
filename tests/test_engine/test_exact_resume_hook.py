"""A run that was killed and resumed equals one that was not, bit for bit."""
from types import SimpleNamespace

import pytest
import torch
import toy_training as toy
from mmengine.optim import OptimWrapper
from torch import nn

from mixedae_mm.engine.resume import exact_resume_hook
from mixedae_mm.engine.resume.run_setting import check_optimizer_state
from mixedae_mm.utils.errors import ConfigurationError

EPOCHS = dict()
MID_EPOCH = dict(checkpoint=dict(by_epoch=False, interval=3))
ITERATIONS = dict(loop='iteration')
ENDLESS = dict(loop='iteration', sampler='InfiniteSampler',
               checkpoint=dict(interval=5))
LOOPS = pytest.mark.parametrize(
    'setting', [EPOCHS, MID_EPOCH, ITERATIONS, ENDLESS],
    ids=['epochs', 'mid-epoch checkpoints', 'iterations', 'endless sampler'])


def kill(stage, iteration, **kwargs):
    return dict(hooks=[
        dict(type='KillHook', stage=stage, iteration=iteration, **kwargs)
    ])


def assert_same(interrupted, expected):
    """Compare piece by piece, for a message that says what differs."""
    for piece in expected:
        if isinstance(expected[piece], dict):
            assert interrupted[piece].keys() == expected[piece].keys()
            for key in expected[piece]:
                assert interrupted[piece][key] == expected[piece][key], (piece, key)
        else:
            assert interrupted[piece] == expected[piece], piece


@LOOPS
@pytest.mark.parametrize('stage, iteration', [
    ('after_train_iter', 10), ('after_train_iter', 20),
    ('before_save_checkpoint', 13), ('after_val_iter', 14),
    ('before_val_epoch', 21)])
def test_one_kill(tmp_path, uninterrupted, setting, stage, iteration):
    assert toy.train(tmp_path, **kill(stage, iteration), **setting) is None
    assert toy.train(tmp_path, resume=True, **setting)
    assert_same(toy.result(tmp_path), uninterrupted(**setting))


@LOOPS
def test_many_kills(tmp_path, uninterrupted, setting):
    for iteration in (1, 8, 9, 16, 19):
        killed = kill('after_train_iter', iteration)
        assert toy.train(tmp_path, resume=True, **killed, **setting) is None
    assert toy.train(tmp_path, resume=True, **setting)
    assert_same(toy.result(tmp_path), uninterrupted(**setting))


def test_without_the_hook_the_runs_differ(tmp_path, uninterrupted):
    """The control: the toy run notices what the hook is there for."""
    setting = dict(MID_EPOCH, without='ExactResumeHook')
    assert toy.train(tmp_path, **kill('after_train_iter', 10), **setting) is None
    assert toy.train(tmp_path, resume=True, **setting)
    cut, whole = toy.result(tmp_path), uninterrupted(**setting)
    assert cut['weights'] != whole['weights']
    assert cut['history']['train/batch'] != whole['history']['train/batch']


@pytest.mark.parametrize('setting', [MID_EPOCH, ENDLESS],
                         ids=['epochs', 'endless sampler'])
def test_workers_change_nothing(tmp_path, uninterrupted, setting):
    """Neither their number nor a change of it, nor a kill in between."""
    killed = kill('after_train_iter', 10)
    assert toy.train(tmp_path, workers=2, **killed, **setting) is None
    killed = kill('after_train_iter', 16)
    assert toy.train(tmp_path, workers=1, resume=True, **killed, **setting) is None
    assert toy.train(tmp_path, workers=2, resume=True, **setting)
    assert_same(toy.result(tmp_path), uninterrupted(**setting))


@pytest.mark.parametrize('setting', [MID_EPOCH, ENDLESS],
                         ids=['epochs', 'endless sampler'])
def test_two_processes(tmp_path, uninterrupted, setting):
    """The toy set halves: 4 batches each; windows of 2, cut by checkpoints."""
    killed = kill('after_train_iter', 8)
    assert 9 in toy.train_processes(tmp_path, 2, **killed, **setting)
    codes = toy.train_processes(tmp_path, 2, resume=True, **setting)
    assert codes == [0, 0]
    assert_same(toy.result(tmp_path), uninterrupted(processes=2, **setting))


@pytest.mark.slow
@pytest.mark.parametrize('settled', [True, False], ids=['exact', 'control'])
def test_three_processes(tmp_path, monkeypatch, settled):
    """Among three, it matters in which order DDP adds; the control shows it."""
    if not settled:
        monkeypatch.setattr(exact_resume_hook, 'settle_gradient_buckets',
                            lambda model: True)
    setting = dict(MID_EPOCH, size=36, accumulative_counts=1)
    whole, cut = tmp_path / 'whole', tmp_path / 'cut'
    assert toy.train_processes(whole, 3, **setting) == [0] * 3
    assert 9 in toy.train_processes(cut, 3, **kill('after_train_iter', 4), **setting)
    assert toy.train_processes(cut, 3, resume=True, **setting) == [0] * 3
    found, expected = toy.result(cut), toy.result(whole)
    if settled:
        assert_same(found, expected)
    else:
        assert found['weights'] != expected['weights']


def test_evaluation_does_not_disturb_training(tmp_path, uninterrupted):
    assert toy.train(
        tmp_path, val_dataloader=None, val_cfg=None, val_evaluator=None)
    assert toy.result(tmp_path)['weights'] == uninterrupted()['weights']


@pytest.mark.parametrize('repeat, evaluations', [(True, 2), (False, 1)])
def test_an_evaluation_can_be_left_out(tmp_path, repeat, evaluations):
    """Of epochs 1 and 2; the last checkpoint is from before that of epoch 3."""
    assert toy.train(tmp_path, **kill('before_val_epoch', 14)) is None
    hook = dict(type='ExactResumeHook', repeat_evaluation=repeat)
    assert toy.train(tmp_path, resume=True, custom_hooks=[
        hook, dict(type='EMAHook', momentum=0.1), dict(type='DigestHook')])
    assert len(toy.result(tmp_path)['history']['val/mean']) == evaluations


def test_skipped_batches_are_not_loaded(tmp_path):
    assert toy.train(tmp_path, **kill('after_train_iter', 10), **MID_EPOCH) is None
    runner = toy.train(tmp_path, resume=True, **MID_EPOCH)
    loaded = runner.train_dataloader.dataset.loaded
    # Checkpoint after 9 iterations: 2 batches into the second epoch.
    assert len(loaded) == (toy.SIZE - 8) + toy.SIZE


def test_an_unset_seed_is_kept_over_a_restart(tmp_path):
    assert toy.train(tmp_path, seed=None, **kill('after_train_iter', 10),
                     **MID_EPOCH) is None
    first = toy.logged(tmp_path)
    assert toy.train(tmp_path, seed=None, resume=True, **MID_EPOCH)
    again = toy.logged(tmp_path)
    assert first and all(again[step] == first[step] for step in first)


def test_our_state_is_readable_without_running_code(tmp_path):
    setting = dict(accumulative_counts=4, **MID_EPOCH)
    assert toy.train(tmp_path, **kill('after_train_iter', 10), **setting) is None
    checkpoint = torch.load(tmp_path / 'iter_9.pth', weights_only=False)
    torch.save(checkpoint['exact_resume'], tmp_path / 'ours.pth')
    ours = torch.load(tmp_path / 'ours.pth', weights_only=True)
    assert ours['total_batch'] == 4
    assert len(ours['gradients']) == 1  # of one process, in an open window


def test_flexible_runner(tmp_path):
    """The runner of FSDP and DeepSpeed, here with one device."""
    # It loads before hooks are ready, which mmengine's EMAHook cannot bear.
    setting = dict(MID_EPOCH, without='EMAHook', runner_type='FlexibleRunner',
                   strategy=dict(type='SingleDeviceStrategy'))
    assert toy.train(tmp_path / 'whole', **setting)
    cut = tmp_path / 'cut'
    assert toy.train(cut, **kill('after_train_iter', 10), **setting) is None
    assert toy.train(cut, resume=True, **setting)
    assert_same(toy.result(cut), toy.result(tmp_path / 'whole'))


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
