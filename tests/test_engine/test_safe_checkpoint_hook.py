"""Kills and full disks at every point of a checkpoint's life."""
import errno
import os
from contextlib import nullcontext

import pytest
import torch
import toy_training as toy
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.visualization import LocalVisBackend

from mixedae_mm.engine import SafeCheckpointHook
from mixedae_mm.engine.resume.file_backend import AtomicBackend, DeletesLater
from mixedae_mm.utils.checkpoint_files import damage
from mixedae_mm.utils.errors import ConfigurationError

SECOND = 2  # of the checkpoints that the toy run writes


def strike_at_call(monkeypatch, owner, name, number, strike, after=False):
    """Let the number-th call of a function be struck, before it or after."""
    function, calls = getattr(owner, name), []

    def struck(*args, **kwargs):
        calls.append(name)
        if len(calls) == number and not after:
            return strike(*args, **kwargs)
        value = function(*args, **kwargs)
        if len(calls) == number:
            strike(*args, **kwargs)
        return value

    monkeypatch.setattr(owner, name, struck)


def kill(*args, **kwargs):
    raise toy.Killed


def kill_half_way(source, destination):
    """At the moment at which the file would get its name."""
    os.truncate(source, os.path.getsize(source) // 2)
    raise toy.Killed


def fill_disk(*args):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def newest(work_dir):
    """The file that ``last_checkpoint`` names: always a whole one."""
    path = (work_dir / 'last_checkpoint').read_text()
    assert damage(path) is None
    return os.path.basename(path)


def files(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth*'))  # hidden ones too


@pytest.mark.parametrize('owner, name, strike, after, named', [
    (os, 'replace', kill_half_way, False, 'epoch_1.pth'),
    (os, 'replace', kill, False, 'epoch_1.pth'),
    (AtomicBackend, 'put', kill, True, 'epoch_1.pth'),
    (DeletesLater, 'delete_outdated', kill, False, 'epoch_2.pth'),
], ids=['half written', 'not renamed', 'not named', 'not cleaned up'])
def test_kill_in_a_write(tmp_path, monkeypatch, check_same, owner, name,
                         strike, after, named):
    with monkeypatch.context() as patch:
        strike_at_call(patch, owner, name, SECOND, strike, after)
        assert toy.train(tmp_path, checkpoint=dict(max_keep_ckpts=1)) is None
    assert newest(tmp_path) == named
    assert toy.train(tmp_path, checkpoint=dict(max_keep_ckpts=1), resume=True)
    assert files(tmp_path) == ['epoch_3.pth']
    check_same(tmp_path, checkpoint=dict(max_keep_ckpts=1))


def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, said, check_same):
    strike_at_call(monkeypatch, AtomicBackend, 'put', SECOND, fill_disk)
    assert toy.train(tmp_path, checkpoint=dict(max_keep_ckpts=1))
    text = said()
    assert 'Could not write epoch_2.pth' in text
    assert 'No space left on device' in text
    assert f'newest complete checkpoint is {tmp_path}/epoch_1.pth' in text
    # The next interval has succeeded, and only then the old one went.
    assert files(tmp_path) == ['epoch_3.pth'] == [newest(tmp_path)]
    check_same(tmp_path)


def test_a_full_disk_before_a_kill(tmp_path, monkeypatch, check_same):
    """The interval that failed is repeated from the one before."""
    with monkeypatch.context() as patch:
        strike_at_call(patch, AtomicBackend, 'put', SECOND, fill_disk)
        assert toy.train(tmp_path, **toy.kill(17)) is None
    assert newest(tmp_path) == 'epoch_1.pth'
    assert toy.train(tmp_path, resume=True)
    assert files(tmp_path) == ['epoch_2.pth', 'epoch_3.pth']
    check_same(tmp_path)


def test_unwritten_curves_stop_nothing(tmp_path, monkeypatch, said, uninterrupted):
    """Each line of curves is written twice; three have no room at first."""

    for number in (3, 4, 7):
        strike_at_call(monkeypatch, LocalVisBackend, '_dump', number, fill_disk)
    assert toy.train(tmp_path)
    text = said()
    assert 'No space left on device. Training goes on' in text
    assert len(toy.logged(tmp_path)) == len(uninterrupted()['log']) - 3


@pytest.mark.parametrize('failures', [1, 2])
@pytest.mark.parametrize('first, options, name', [
    (3, {}, 'epoch_3.pth'),
    # The run ends between intervals: no newer weights under the name of epoch_2.pth.
    (1, dict(interval=2, save_last=False), 'interrupted_iter_21.pth')])
def test_the_last_save_gets_a_second_chance(tmp_path, monkeypatch, failures, first,
                                            options, name):
    """Without success it is an error."""
    for number in range(first, first + failures):
        strike_at_call(monkeypatch, AtomicBackend, 'put', number, fill_disk)
    with nullcontext() if failures == 1 else pytest.raises(
            OSError, match='iteration 21, could not be written'):
        toy.train(tmp_path, checkpoint=options)
    assert (name in files(tmp_path)) == (failures == 1)
    if failures == 1:
        meta = toy.newest(tmp_path)['meta']
        assert newest(tmp_path) == name and (meta['epoch'], meta['iter']) == (3, 21)


@HOOKS.register_module()
class RisingHook(Hook):
    """A metric that improves with every evaluation."""
    priority = 'HIGHEST'

    def after_val_epoch(self, runner, metrics):
        metrics['acc'] = float(runner.epoch)


BEST = dict(
    checkpoint=dict(max_keep_ckpts=1, save_best='acc', rule='greater'),
    hooks=[dict(type='RisingHook')])


@pytest.mark.parametrize('strike', [fill_disk, kill])
def test_the_best_one_is_never_lost(tmp_path, monkeypatch, strike):
    # Each epoch writes: regular, best, regular with the best one's name.
    strike_at_call(monkeypatch, AtomicBackend, 'put', 5, strike)
    train = toy.train(tmp_path, **BEST, train_cfg=dict(by_epoch=True, max_epochs=2))
    assert (train is None) == (strike is kill)
    best = tmp_path / 'best_acc_epoch_1.pth'
    assert damage(str(best)) is None
    monkeypatch.undo()
    assert toy.train(tmp_path, **BEST, resume=True)
    assert files(tmp_path) == ['best_acc_epoch_3.pth', 'epoch_3.pth']


@pytest.mark.parametrize('fault', ['is incomplete', 'does not exist'])
def test_resume_skips_a_damaged_newest_one(tmp_path, said, check_same, fault):
    assert toy.train(tmp_path, **toy.kill(17)) is None
    if fault == 'is incomplete':
        os.truncate(tmp_path / 'epoch_2.pth', 2000)
    else:
        os.remove(tmp_path / 'epoch_2.pth')
    assert toy.train(tmp_path, resume=True)
    text = said()
    assert f'{tmp_path}/epoch_2.pth {fault}' in text
    assert f'Resuming from {tmp_path}/epoch_1.pth instead' in text
    check_same(tmp_path)


def test_two_processes_agree_on_a_failure(tmp_path, monkeypatch):
    """Only rank 0 sees the full disk; both would wait for each other."""
    strike_at_call(monkeypatch, AtomicBackend, 'put', 3, fill_disk)
    assert toy.train_processes(tmp_path, 2) == [0, 0]
    assert newest(tmp_path) == 'epoch_3.pth'


def test_nothing_that_could_be_resumed_is_overwritten(tmp_path, said, uninterrupted):
    """A checkpoint that was copied alone is gone on from."""
    assert toy.train(tmp_path / 'first', **toy.kill(15)) is None
    (tmp_path / 'copy').mkdir()
    os.rename(tmp_path / 'first/epoch_2.pth', tmp_path / 'copy/epoch_2.pth')
    before = (tmp_path / 'copy/epoch_2.pth').read_bytes()
    assert toy.train(tmp_path / 'copy', resume=True)
    assert (tmp_path / 'copy/epoch_2.pth').read_bytes() == before
    assert toy.result(tmp_path / 'copy')['weights'] == uninterrupted()['weights']
    said()
    # Not asked to resume: the files are named before they are overwritten.
    assert toy.train(tmp_path / 'copy', train_cfg=dict(by_epoch=True, max_epochs=1))
    text = said()
    assert 'epoch_2.pth, epoch_3.pth' in text and '--resume would' in text


def test_weights_alone_are_not_said_to_be_resumable(tmp_path, said):
    (tmp_path / 'run').mkdir()
    torch.save({'layers.0.weight': torch.zeros(8, 4)}, tmp_path / 'run/best_a.pth')
    said()
    assert toy.train(tmp_path / 'run', resume=True)
    text = said()
    assert 'best_a.pth' in text and '--resume cannot' in text


@pytest.mark.parametrize('pointer', ['kept', 'lost'])
def test_checkpoints_elsewhere_are_resumed_whole(tmp_path, check_same, pointer):
    """With log history and best score, which are more than tensors."""
    run = tmp_path / 'run'
    best = dict(checkpoint=dict(
        BEST['checkpoint'], out_dir=str(tmp_path / 'out')))
    hooks = [*BEST['hooks'], *toy.kill(17)['hooks']]
    assert toy.train(run, **best, hooks=hooks) is None
    if pointer == 'lost':
        os.remove(run / 'last_checkpoint')
    assert toy.train(run, **best, hooks=BEST['hooks'], resume=True)
    assert files(tmp_path / 'out/run') == ['best_acc_epoch_3.pth', 'epoch_3.pth']
    check_same(run, **BEST)


@pytest.mark.parametrize('where', [
    dict(out_dir='s3://bucket/runs'), dict(backend_args=dict(backend='petrel')),
    dict(file_client_args=dict(backend='disk'))])
def test_object_stores_are_refused_at_the_start(where):
    with pytest.raises(ConfigurationError, match=str(next(iter(where)))):
        SafeCheckpointHook(**where)
