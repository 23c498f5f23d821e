"""A loss or gradient that is NaN reaches neither weights nor optimizer."""
import glob
import math
from types import SimpleNamespace

import pytest
import torch
import toy_training as toy
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS, MODELS, OPTIM_WRAPPERS

from mixedae_mm.engine import (NonFiniteLossError, NonFiniteLossHook,
                               replay_nonfinite_loss)
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.machine import pytorch_is
from reliability.traces import digest


@MODELS.register_module()
class FailingModel(toy.ToyModel):
    """At given iterations, on one rank, its loss is NaN or its gradient infinite."""

    def __init__(self, at=(), rank=0, what='loss'):
        super().__init__()
        self.at, self.rank, self.what = at, rank, what

    def forward(self, inputs, data_samples=None, mode='tensor'):
        iteration = MessageHub.get_current_instance().get_info('iter')
        fails = (mode == 'loss' and iteration in self.at and get_rank() == self.rank)
        if fails and self.what == 'loss':
            inputs = [image * math.nan for image in inputs]
        losses = super().forward(inputs, data_samples, mode)
        if mode == 'loss':
            # The slope of a root is infinite at zero: inf * 0 is NaN.
            zero = (self.layers[0].weight * 0).sum()
            losses['loss_fine'] = zero.sqrt() if fails else zero
        return losses


@HOOKS.register_module()
class StateHook(Hook):
    """Write down a digest of the state after every iteration."""
    priority = 'LOWEST'
    digests = []

    def before_train(self, runner):
        self.digests.clear()

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        model = getattr(runner.model, 'module', runner.model)
        self.digests.append((
            digest(model.state_dict()),
            digest(runner.optim_wrapper.state_dict()['state'])))


# With a fused optimizer the device leaves an update out, else the host does.
FUSED = pytest.mark.parametrize('fused', [False, pytest.param(True, marks=(
    pytest.mark.skipif(not pytorch_is('2.4'), reason='no fused AdamW on a CPU')))])


def setting(at, max_skips=0, rank=0, accumulative_counts=1, what='loss', fused=False,
            clip_grad=None, **kwargs):
    return dict(
        optim_wrapper=dict(
            type='OptimWrapper', accumulative_counts=accumulative_counts,
            clip_grad=clip_grad, optimizer=dict(type='AdamW', lr=0.05, fused=fused)),
        model=dict(type='FailingModel', at=at, rank=rank, what=what),
        hooks=[dict(type='NonFiniteLossHook', max_skips=max_skips, **kwargs),
               dict(type='StateHook')])


def check_updates(count, dropped):
    """Moments change where an accumulated update is made, the last one always."""
    moments = [moments for _, moments in StateHook.digests]
    for iteration, (before, after) in enumerate(zip(moments, moments[1:]), start=1):
        updates = (iteration + 1) % count == 0 or iteration == 20
        assert (before != after) == (updates and iteration not in dropped)


def test_stop_is_the_default(tmp_path):
    """With a report, and a file to look for the cause."""
    with pytest.raises(NonFiniteLossError) as stopped:
        toy.train(tmp_path, **setting(at=[2]), train_dataloader=dict(
            batch_size=10, dataset=dict(type='ToyDataset', size=30),
            sampler=dict(type='DefaultSampler', shuffle=False)))
    path = f'{tmp_path}/nonfinite/iter_3_rank_0.pth'
    for fact in ('The loss of iteration 3 is not finite',
                 'rank 0: loss=nan, loss_toy=nan, loss_fine=0',
                 'batch of image_20.jpg, image_21.jpg', 'image_27.jpg and 2 more',
                 f'kept in {path}'):
        assert fact in str(stopped.value)
    dump = torch.load(path, weights_only=False)
    assert dump['files'] == [f'image_{index}.jpg' for index in range(20, 30)]
    with pytest.raises(NonFiniteLossError, match='gradient of iteration 5'):
        toy.train(tmp_path, **setting([4], what='gradient'))
    assert glob.glob(f'{tmp_path}/nonfinite/iter_5_rank_0.pth')


@FUSED
def test_skip(tmp_path, said, fused):
    assert toy.train(tmp_path, **setting(
        at=[9, 10, 15], max_skips=2, max_dumps=2, fused=fused))
    for iteration, (before, after) in enumerate(
            zip(StateHook.digests, StateHook.digests[1:]), start=1):
        # Neither weights, BatchNorm statistics nor moments have changed.
        assert (before == after) == (iteration in (9, 10, 15))
    text = said()
    assert 'number 1 of at most 2 in a row' in text
    assert 'number 2 of at most 2 in a row' in text
    history = toy.history(tmp_path)
    assert history['train/skipped_losses'] == [1, 2, 3]
    assert len(history['train/loss']) == 21 - 3
    assert all(map(math.isfinite, history['train/loss']))
    assert len(glob.glob(f'{tmp_path}/nonfinite/*')) == 2


@FUSED
@pytest.mark.parametrize('at, count, last', [
    ([3, 9, 10, 11], 1, 12),
    # Though every second loss is finite, no update is made.
    ([8, 10, 12], 2, 13)])
def test_too_many_in_a_row(tmp_path, at, count, last, fused):
    with pytest.raises(NonFiniteLossError, match=f'iteration {last} .* 2 updates may'):
        toy.train(tmp_path, **setting(
            at, max_skips=2, accumulative_counts=count, fused=fused))
    assert len(StateHook.digests) == last - 1
    assert len(set(StateHook.digests[8:])) == 1 or count > 1


@FUSED
@pytest.mark.parametrize('at', [[8], [9], [8, 9]])
def test_an_accumulated_update_is_dropped_as_a_whole(tmp_path, at, fused):
    """Windows of 2: iterations 8 and 9 (from 0) make one update."""
    assert toy.train(tmp_path, **setting(
        at, max_skips=1, accumulative_counts=2, fused=fused))
    check_updates(2, dropped=[9])


@FUSED
def test_a_dropped_window_stays_dropped_over_a_restart(tmp_path, check_same, fused):
    """The checkpoint is between the NaN and the end of its window."""

    def options(*hooks):
        chosen = setting([8], max_skips=1, accumulative_counts=2, fused=fused)
        return dict(chosen, hooks=[*chosen['hooks'], *hooks],
                    checkpoint=dict(by_epoch=False, interval=9))

    assert toy.train(tmp_path, **options(*toy.kill()['hooks'])) is None
    assert toy.train(tmp_path, resume=True, **options())
    check_same(tmp_path, **options())


def test_replay_gives_the_losses_of_the_step(tmp_path):
    """Dropout and noise included, which are drawn again."""
    assert toy.train(tmp_path, **setting(at=[9], max_skips=1))
    path = f'{tmp_path}/nonfinite/iter_10_rank_0.pth'
    model = FailingModel()
    assert toy.train(tmp_path / 'whole', **setting(at=[]))
    expected = toy.history(tmp_path / 'whole')['train/loss'][9]
    assert replay_nonfinite_loss(path, model)['loss'] == expected
    model.forward = lambda *args, **kwargs: dict(loss=torch.tensor(math.nan))
    assert math.isnan(replay_nonfinite_loss(path, model)['loss'])


def all_weights(work_dir):
    weights = toy.newest(work_dir)['state_dict'].values()
    return torch.cat([value.flatten().double() for value in weights])


@FUSED
@pytest.mark.parametrize('what', ['loss', 'gradient'])
@pytest.mark.parametrize('accumulative_counts', [1, 2])
def test_two_processes_skip_together(tmp_path, accumulative_counts, what, fused):
    """Rank 1 alone has the NaN; DDP would spread it to both."""
    kwargs = setting([4, 5], max_skips=2, rank=1, what=what, fused=fused,
                     accumulative_counts=accumulative_counts)
    assert toy.train_processes(tmp_path, 2, **kwargs) == [0, 0]
    assert all(map(math.isfinite, toy.history(tmp_path)['train/loss']))
    assert all_weights(tmp_path).isfinite().all()
    if what == 'loss':  # a gradient is the same on both after DDP has summed it
        assert {path[-10:] for path in glob.glob(f'{tmp_path}/nonfinite/*')} == {
            'rank_1.pth'}


def test_two_processes_stop_together(tmp_path, said):
    assert toy.train_processes(tmp_path, 2, **setting([4], rank=1)) == [1, 1]
    assert said().count('NonFiniteLossError: The loss of iteration 5 is not '
                        'finite. On rank 1: loss=nan') == 2


@FUSED
@pytest.mark.parametrize('clip_grad', [None, dict(max_norm=1.)])
@pytest.mark.parametrize('count, dropped', [(1, [9, 10]), (2, [9, 11])])
def test_a_bad_gradient_of_a_finite_loss(tmp_path, said, count, dropped, clip_grad,
                                         fused):
    """Iterations 9 and 10 (from 0), each alone or in a window of two."""
    assert toy.train(tmp_path, **setting(
        [9, 10], 2, what='gradient', accumulative_counts=count, clip_grad=clip_grad,
        fused=fused))
    check_updates(count, dropped)
    text = said()
    assert f'The gradient of iteration {dropped[1] + 1} is not finite' in text
    assert 'loss_fine=0; gradient of layers.0.weight' in text
    assert ('up to 2 batches, of which the last is named' in text) == (count == 2)
    assert 'number 2 of at most 2 in a row' in text
    history = toy.history(tmp_path)
    assert history['train/skipped_losses'] == [1, 2]
    assert len(history['train/loss']) == 21
    assert all_weights(tmp_path).isfinite().all()


@OPTIM_WRAPPERS.register_module()
class OverflowingWrapper(OptimWrapper):
    """What AmpOptimWrapper does in fp16, where there is no GPU for it.

    Scaled gradients of a finite loss overflow: no step, half the scale.
    """
    scale, skipped = 2.**120, 0
    loss_scaler = SimpleNamespace(is_enabled=lambda: True)

    def backward(self, loss, **kwargs):
        super().backward(loss * self.scale, **kwargs)

    def step(self, **kwargs):
        gradients = [p.grad for g in self.param_groups for p in g['params']]
        if all(gradient.isfinite().all() for gradient in gradients):
            for gradient in gradients:
                gradient.div_(self.scale)
            super().step(**kwargs)
        else:
            type(self).skipped += 1
            self.scale /= 2


def test_skips_of_a_loss_scaler_are_no_errors(tmp_path):
    OverflowingWrapper.scale, OverflowingWrapper.skipped = 2.**127, 0
    assert toy.train(tmp_path, **{**setting(at=[]), 'optim_wrapper': dict(
        type='OverflowingWrapper', optimizer=dict(type='AdamW', lr=0.05))})
    assert OverflowingWrapper.skipped > 0
    assert 'train/skipped_losses' not in toy.history(tmp_path)
    assert not glob.glob(f'{tmp_path}/nonfinite/*')


@pytest.mark.skipif(not pytorch_is('2.4'), reason='no fused optimizer on a CPU')
def test_a_fused_sgd_is_not_asked_to_leave_out_an_update(tmp_path):
    """It would keep a momentum that it has not filled."""
    settings = setting([0, 3], max_skips=1)
    settings['optim_wrapper']['optimizer'] = dict(
        type='SGD', lr=0.01, momentum=0.9, fused=True)
    assert toy.train(tmp_path, **settings)
    unfused = setting([0, 3], max_skips=1)
    unfused['optim_wrapper']['optimizer'] = dict(type='SGD', lr=0.01, momentum=0.9)
    assert toy.train(tmp_path / 'unfused', **unfused)
    torch.testing.assert_close(all_weights(tmp_path), all_weights(tmp_path / 'unfused'))


@pytest.mark.parametrize('name', ['max_skips', 'max_dumps'])
def test_negative_arguments(name):
    NonFiniteLossHook(**{name: math.inf})  # no limit
    with pytest.raises(ConfigurationError, match=f'{name} is -1'):
        NonFiniteLossHook(**{name: -1})


def test_wrappers_of_several_optimizers_are_refused():
    optimizer = torch.optim.SGD(torch.nn.Linear(1, 1).parameters(), lr=1.)
    runner = SimpleNamespace(
        optim_wrapper=OptimWrapperDict(one=OptimWrapper(optimizer)))
    with pytest.raises(ConfigurationError, match='there is a OptimWrapperDict'):
        NonFiniteLossHook().before_train(runner)
