"""A resumed run has the rates and schedules that its config has now."""
import copy
import logging
from types import SimpleNamespace

import numpy as np
import pytest
import toy_training as toy
import torch
from mmengine.optim import OptimWrapper, OptimWrapperDict, build_optim_wrapper
from mmengine.registry import PARAM_SCHEDULERS
from test_changed_processes import setting
from test_layer_decay_optim_constructor import Headed
from test_merged_optim_constructor import MERGED, SINGLE, Parts, optimizer_of
from torch import nn

from mixedae_mm.engine.resume.config_schedules import follow_config
from mixedae_mm.utils.errors import ConfigurationError
from reliability.traces import digest

EPOCH = 5  # iterations
WARM_UP = dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1,
               convert_to_iter_based=True)


class Life:
    """Optimizer and schedules of one process of a run, without the model."""

    def __init__(self, schedules, lr=0.1, optimizer=torch.optim.AdamW, scale=0.5,
                 wrapper=None, **options):
        layers = nn.Linear(2, 2), nn.Linear(2, 3)
        groups = [dict(params=layers[0].parameters(), lr=lr * scale),
                  dict(params=layers[1].parameters())]
        self.optim_wrapper = wrapper or OptimWrapper(
            optimizer(groups, lr=lr, **options))
        self.param_schedulers = [PARAM_SCHEDULERS.build(
            dict(config), default_args=dict(optimizer=self.optim_wrapper,
                                            epoch_length=EPOCH))
            for config in schedules]
        self.train_dataloader = range(EPOCH)
        self.said = []
        self.logger = SimpleNamespace(warning=self.said.append)

    def run(self, first, last):
        """Settings of all groups in iterations first to last - 1."""
        seen = []
        for iteration in range(first, last):
            seen.append([[group['lr'], group['weight_decay'],
                          group.get('betas', group.get('momentum'))]
                         for group in self.optim_wrapper.param_groups])
            # First those in iterations, as a runner does.
            for scheduler in sorted(self.param_schedulers, key=lambda s: s.by_epoch):
                if not scheduler.by_epoch or (iteration + 1) % EPOCH == 0:
                    scheduler.step()
        return seen

    def save(self, iterations):
        return copy.deepcopy(dict(
            meta=dict(iter=iterations, epoch=iterations // EPOCH),
            optimizer=self.optim_wrapper.state_dict(),
            param_schedulers=[s.state_dict() for s in self.param_schedulers]))

    def resume(self, checkpoint):
        follow_config(self, checkpoint)
        self.optim_wrapper.load_state_dict(checkpoint['optimizer'])
        for scheduler, state in zip(self.param_schedulers,
                                    checkpoint['param_schedulers']):
            scheduler.load_state_dict(state)


def cosine(epochs, **kwargs):
    return dict(dict(type='CosineAnnealingLR', T_max=epochs, end=epochs, eta_min=1e-3,
                     by_epoch=True, convert_to_iter_based=True), **kwargs)


def by_epoch(epochs):
    return cosine(epochs, convert_to_iter_based=False)


def in_iterations(kind, **kwargs):
    return dict(type=kind, by_epoch=False, **kwargs)


CHANGES = {
    'longer': ([cosine(2)], [cosine(6)], {}),
    'longer, by epoch': ([by_epoch(2)], [by_epoch(6)], {}),
    'longer, after a warm-up': (
        [WARM_UP, cosine(2, begin=1)], [WARM_UP, cosine(6, begin=1)], {}),
    'another warm-up': (
        [WARM_UP, by_epoch(6)], [dict(WARM_UP, end=3), by_epoch(6)], {}),
    'another rate': ([cosine(6)], [cosine(6)], dict(lr=0.3)),
    'another rate without a schedule': ([], [], dict(lr=0.3)),
    'another layer decay': ([cosine(6)], [cosine(6)], dict(scale=0.7)),
    'another weight decay': ([cosine(6)], [cosine(6)], dict(weight_decay=0.3)),
    'other betas': ([cosine(6)], [cosine(6)], dict(betas=(0.8, 0.95))),
    'a schedule added': ([], [cosine(6)], {}),
    'a schedule removed': ([WARM_UP, cosine(6)], [cosine(6)], {}),
    'all schedules removed': ([cosine(6)], [], {}),
    'another kind': ([by_epoch(6)], [dict(type='ExponentialLR', gamma=0.9)], {}),
    'one cycle': ([in_iterations('OneCycleLR', eta_max=1., total_steps=15)],
                  [in_iterations('OneCycleLR', eta_max=1., total_steps=40)], {}),
    'restarts': ([in_iterations('CosineRestartLR', periods=[4, 12], eta_min=0,
                                restart_weights=[1, 0.5])],
                 [in_iterations('CosineRestartLR', periods=[8, 40], eta_min=0,
                                restart_weights=[1, 0.5])], {}),
    'momentum': ([in_iterations('LinearMomentum', start_factor=0.5, end=10)],
                 [in_iterations('LinearMomentum', start_factor=0.5, end=30)], {}),
    'weight decay schedule': (
        [in_iterations('LinearParamScheduler', param_name='weight_decay', end=10)],
        [in_iterations('LinearParamScheduler', param_name='weight_decay', end=30)], {}),
}


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('done', [2 * EPOCH, 2 * EPOCH + 2])
def test_the_config_decides(change, done):
    """From there on as in a run that had this config from its start."""
    before, now, options = CHANGES[change]
    first = Life(before)
    first.run(0, done)
    resumed, whole = Life(now, **options), Life(now, **options)
    resumed.resume(first.save(done))
    expected = whole.run(0, 6 * EPOCH)[done:]
    assert resumed.run(done, 6 * EPOCH) == expected
    assert len(resumed.said) == 1 and f'from iteration {done + 1} on' in resumed.said[0]
    # A second interruption changes nothing more.
    again = Life(now, **options)
    again.resume(resumed.save(6 * EPOCH))
    assert again.run(0, 2) == resumed.run(0, 2)
    assert not again.said


@pytest.mark.parametrize('schedules, optimizer, options', [
    ([WARM_UP, cosine(6, begin=1)], torch.optim.AdamW, dict(betas=[0.9, 0.95])),
    ([in_iterations('LinearMomentum', start_factor=0.5, end=9)], torch.optim.AdamW, {}),
    ([in_iterations('LinearMomentum', start_factor=0.5, end=9)], torch.optim.SGD,
     dict(momentum=0.9)),
    ([dict(type='ReduceOnPlateauLR')], torch.optim.SGD, {}),
])
def test_without_a_change_the_checkpoint_stays(schedules, optimizer, options):
    first = Life(schedules, optimizer=optimizer, **options)
    first.run(0, 7)
    checkpoint = first.save(7)
    before = digest([checkpoint['optimizer'], checkpoint['param_schedulers']])
    resumed = Life(schedules, optimizer=optimizer, **options)
    follow_config(resumed, checkpoint)
    after = digest([checkpoint['optimizer'], checkpoint['param_schedulers']])
    assert after == before and not resumed.said


def test_schedules_of_evaluations_are_kept_and_that_is_said():
    schedules = [dict(type='ReduceOnPlateauLR', monitor='loss', patience=0)]
    first = Life(schedules)
    for value in (1., 2., 3.):
        first.param_schedulers[0].step(dict(loss=value))
    resumed = Life(schedules, lr=0.3)
    resumed.resume(first.save(2 * EPOCH))
    assert resumed.run(0, 1) == first.run(0, 1)
    assert 'lr 0.3 instead of 0.1' in resumed.said[0]
    assert 'load_from' in resumed.said[0]


@pytest.mark.parametrize('frozen, frozen_now', [('', '1'), ('1', ''), ('0', '1')])
def test_other_frozen_layers_are_refused(frozen, frozen_now):
    """Moments of one layer would be taken for those of another."""
    def life(frozen):
        model = Headed()
        for layer in map(int, frozen):
            model.backbone.layers[layer].requires_grad_(False)
        return Life([], wrapper=build_optim_wrapper(model, dict(
            type='OptimWrapper', constructor='LayerDecayOptimWrapperConstructor',
            optimizer=dict(type='AdamW', lr=0.1, weight_decay=0.05))))

    checkpoint = life(frozen).save(3)
    life(frozen).resume(copy.deepcopy(checkpoint))
    with pytest.raises(ConfigurationError, match='frozen parameters'):
        life(frozen_now).resume(checkpoint)


@pytest.mark.parametrize('lr', [0.01, 0.03])
def test_groups_that_are_merged_now(lr):
    """Checkpoints from when each parameter had a group are resumed."""
    def life(constructor, lr):
        wrapper = optimizer_of(Parts(), constructor)
        for group in wrapper.param_groups:
            group['lr'] = lr
        return Life([cosine(6)], wrapper=wrapper)

    first = life(SINGLE, 0.01)
    first.run(0, 7)
    resumed = life(MERGED, lr)
    resumed.resume(first.save(7))
    assert resumed.run(7, 9) == life(MERGED, lr).run(0, 9)[7:]
    assert len(resumed.said) == (lr != 0.01)


def test_several_optimizers():
    def lives(lr):
        parts = dict(a=Life([cosine(6)], lr=lr), b=Life([cosine(6)]))
        return parts, SimpleNamespace(
            optim_wrapper=OptimWrapperDict(
                **{name: part.optim_wrapper for name, part in parts.items()}),
            param_schedulers={
                name: part.param_schedulers for name, part in parts.items()},
            train_dataloader=range(EPOCH), logger=logging.getLogger())

    parts, runner = lives(0.1)
    for part in parts.values():
        part.run(0, 7)
    checkpoint = dict(
        parts['a'].save(7), optimizer=runner.optim_wrapper.state_dict(),
        param_schedulers={name: part.save(7)['param_schedulers']
                          for name, part in parts.items()})
    follow_config(lives(0.3)[1], checkpoint)
    assert checkpoint['optimizer']['a']['param_groups'][1]['initial_lr'] == 0.3
    assert checkpoint['optimizer']['b']['param_groups'][1]['initial_lr'] == 0.1
    assert checkpoint['param_schedulers']['a'][0]['_global_step'] == 7


def rates(runner):
    return runner.message_hub.get_scalar('train/lr').data[0]


def test_a_longer_run(tmp_path, said):
    """Two epochs are done, and the config says six, with a cosine to its end."""

    def run(folder, epochs, **kwargs):
        return toy.train(folder, accumulative_counts=1, train_cfg=dict(
            by_epoch=True, max_epochs=epochs), param_scheduler=[dict(
                type='CosineAnnealingLR', by_epoch=True, T_max=epochs,
                convert_to_iter_based=True)], **kwargs)

    run(tmp_path / 'run', 2)
    resumed = rates(run(tmp_path / 'run', 6, resume=True))
    whole = rates(run(tmp_path / 'whole', 6))
    assert list(resumed[14:]) == list(whole[14:])
    assert 'T_max 42 instead of 14' in said()


def test_another_batch_with_automatic_rates(tmp_path, said):
    """Half the batch, half the rate, as the base batch says."""
    options = dict(accumulative_counts=1, param_scheduler=None,
                   auto_scale_lr=dict(enable=True, base_batch_size=4))
    assert toy.train(tmp_path, **options, **setting(tmp_path, 4, kill=True)) is None
    runner = toy.train(tmp_path, resume=True, **options, **setting(tmp_path, 2))
    np.testing.assert_allclose(rates(runner), [0.05] * 9 + [0.025] * 18)
    assert 'lr 0.025 instead of 0.05' in said()


def test_another_optimizer_is_refused(tmp_path):
    assert toy.train(tmp_path, **toy.kill()) is None
    with pytest.raises(ConfigurationError, match='SGD.*AdamW'):
        toy.train(tmp_path, resume=True, optim_wrapper=dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=0.05)))


def test_windows_of_another_length(tmp_path, said):
    """The checkpoint after 9 iterations is within a window of 2."""
    assert toy.train(tmp_path, **toy.kill(), **toy.MID_EPOCH) is None
    assert toy.train(tmp_path, resume=True, accumulative_counts=3, **toy.MID_EPOCH)
    text = said()
    assert 'updates of 3 instead of 2' in text
    assert 'they belong to windows of 2 batches' in text
