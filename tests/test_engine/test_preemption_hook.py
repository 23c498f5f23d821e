"""A signal, a checkpoint, an exit code; and the run goes on as if nothing was."""
import os
import signal
import subprocess

import pytest
import toy_training as toy
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner.loops import _InfiniteDataloaderIterator

from mixedae_mm.engine import PreemptionHook
from mixedae_mm.utils.errors import ConfigurationError


@HOOKS.register_module()
class SignalHook(Hook):
    """Get a signal at a given stage, on one rank, from another process."""
    priority = 'HIGHEST'

    def __init__(self, stage, iteration, name='SIGTERM', rank=0, group=False):
        self.iteration, self.rank = iteration, rank
        self.name, self.group, self.sent = name, group, False
        setattr(self, stage, self.strike)

    def strike(self, runner, *args, **kwargs):
        if (runner.iter >= self.iteration and runner.rank == self.rank
                and not self.sent):
            self.sent = True
            target = f'-{os.getpgid(0)}' if self.group else str(os.getpid())
            subprocess.run(['kill', f'-{self.name[3:]}', '--', target],
                           check=True, start_new_session=True)


def preempted(stage, iteration, **kwargs):
    return dict(hooks=[
        dict(type='PreemptionHook'),
        dict(type='SignalHook', stage=stage, iteration=iteration, **kwargs)])


RESUMED = dict(hooks=[dict(type='PreemptionHook')], resume=True)


@pytest.mark.parametrize('setting, name', [
    (dict(loop='epoch'), 'SIGTERM'), (dict(loop='iteration'), 'SIGUSR1')])
@pytest.mark.parametrize('stage, iteration, saved, checkpoint', [
    ('before_train_iter', 9, 'interrupted_iter_10.pth', {}),
    ('after_train_iter', 13, None, {}),  # the last one before an evaluation
    ('after_val_iter', 14, None, {}),
    # Saved in an evaluation: with the model's own weights, not those of EMA.
    ('after_val_iter', 14, 'interrupted_iter_14.pth', dict(by_epoch=False, interval=4)),
])
def test_signal(tmp_path, check_same, setting, name, stage, iteration, saved,
                checkpoint):
    setting = dict(setting, checkpoint=checkpoint)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as leaving:
        toy.train(tmp_path, **setting, **preempted(stage, iteration, name=name))
    assert leaving.value.code == 75
    signal.signal(signal.SIGTERM, before)
    if saved:
        assert (tmp_path / 'last_checkpoint').read_text().endswith(saved)
    assert toy.train(tmp_path, **setting, **RESUMED)
    assert not list(tmp_path.glob('interrupted*'))
    check_same(tmp_path, **setting)
    assert signal.getsignal(signal.SIGTERM) == before  # given back


@pytest.mark.parametrize('rank', [0, 1])
def test_one_of_two_processes_gets_the_signal(tmp_path, check_same, rank):
    codes = toy.train_processes(
        tmp_path, 2, **preempted('before_train_iter', 5, rank=rank))
    assert codes == [75, 75]
    assert (tmp_path / 'interrupted_iter_6.pth').exists()
    assert toy.train_processes(tmp_path, 2, **RESUMED) == [0, 0]
    check_same(tmp_path, processes=2)


def test_workers_outlive_a_signal_to_the_whole_job(tmp_path, check_same):
    codes = toy.train_processes(
        tmp_path, 1, workers=2, **preempted('before_train_iter', 9, group=True))
    assert codes == [75]
    assert (tmp_path / 'interrupted_iter_10.pth').exists()
    assert toy.train_processes(tmp_path, 1, workers=2, **RESUMED) == [0]
    check_same(tmp_path)


def test_workers_that_run_already(tmp_path, monkeypatch):
    """mmengine 0.10.7 starts those of an iteration-based loop when it builds it."""
    build = _InfiniteDataloaderIterator.__init__

    def build_and_start(self, dataloader):
        build(self, dataloader)
        if self._iterator is None:
            self._iterator = iter(dataloader)

    monkeypatch.setattr(_InfiniteDataloaderIterator, '__init__', build_and_start)
    codes = toy.train_processes(
        tmp_path, 1, loop='iteration', sampler='InfiniteSampler', workers=2,
        without='ExactResumeHook', **preempted('before_train_iter', 9, group=True))
    assert codes == [75]
    assert (tmp_path / 'interrupted_iter_10.pth').exists()


@pytest.mark.parametrize('argument, message', [
    (dict(signals=['SIGNAL']), 'names of signals'),
    (dict(exit_code=0), r'\[1, 255\]'), (dict(exit_code=256), r'\[1, 255\]')])
def test_wrong_arguments(argument, message):
    with pytest.raises(ConfigurationError, match=message):
        PreemptionHook(**argument)


def test_nothing_to_save_with(tmp_path):
    with pytest.raises(ConfigurationError, match='SafeCheckpointHook'):
        toy.train(tmp_path, checkpoint=dict(type='CheckpointHook'),
                  hooks=[dict(type='PreemptionHook')])
