"""Kills and full disks at every point of a checkpoint's life."""
import errno
import os

import pytest
import toy_training as toy
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.visualization import LocalVisBackend
from test_exact_resume_hook import assert_same

import mixedae_mm.engine.resume.atomic_saves as atomic_saves
import mixedae_mm.engine.resume.safe_checkpoint_hook as safe_checkpoint_hook
from mixedae_mm.engine.resume.checkpoint_files import damage

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


def kill_half_way(backend, content, path):
    with open(path, 'wb') as file:
        file.write(content[:len(content) // 2])
    raise toy.Killed


def fill_disk(backend, content, path):
    with open(path, 'wb') as file:
        file.write(content[:len(content) // 2])
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def newest(work_dir):
    """The file that ``last_checkpoint`` names: always a whole one."""
    path = (work_dir / 'last_checkpoint').read_text()
    assert damage(path) is None
    return os.path.basename(path)


def files(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth*'))


@pytest.mark.parametrize('owner, name, strike, after, found', [
    (LocalBackend, 'put', kill_half_way, False, 'epoch_1.pth'),
    (atomic_saves, 'commit', kill, False, 'epoch_1.pth'),
    (atomic_saves, 'commit', kill, True, 'epoch_1.pth'),
    (safe_checkpoint_hook, 'write_text', kill, True, 'epoch_2.pth'),
    (atomic_saves.RemoveLater, 'remove_now', kill, False, 'epoch_2.pth'),
], ids=['half written', 'not renamed', 'not named', 'named', 'not cleaned up'])
def test_kill_in_a_write(tmp_path, monkeypatch, uninterrupted, owner, name,
                         strike, after, found):
    with monkeypatch.context() as patch:
        strike_at_call(patch, owner, name, SECOND, strike, after)
        assert toy.train(tmp_path, checkpoint=dict(max_keep_ckpts=1)) is None
    assert newest(tmp_path) == found
    assert toy.train(tmp_path, checkpoint=dict(max_keep_ckpts=1), resume=True)
    assert files(tmp_path) == ['epoch_3.pth']
    assert_same(toy.result(tmp_path),
                uninterrupted(checkpoint=dict(max_keep_ckpts=1)))


def test_a_full_disk_stops_nothing(tmp_path, monkeypatch, capfd, uninterrupted):
    strike_at_call(monkeypatch, LocalBackend, 'put', SECOND, fill_disk)
    assert toy.train(tmp_path, checkpoint=dict(max_keep_ckpts=1))
    said = ''.join(capfd.readouterr())
    assert 'Could not write epoch_2.pth' in said
    assert 'No space left on device' in said
    assert f'newest complete checkpoint is {tmp_path}/epoch_1.pth' in said
    # The next interval has succeeded, and only then the old one went.
    assert files(tmp_path) == ['epoch_3.pth'] == [newest(tmp_path)]
    assert_same(toy.result(tmp_path), uninterrupted())


def test_a_full_disk_before_a_kill(tmp_path, monkeypatch, uninterrupted):
    """The interval that failed is repeated from the one before."""
    killed = [dict(type='KillHook', stage='after_train_iter', iteration=17)]
    with monkeypatch.context() as patch:
        strike_at_call(patch, LocalBackend, 'put', SECOND, fill_disk)
        assert toy.train(tmp_path, hooks=killed) is None
    assert newest(tmp_path) == 'epoch_1.pth'
    assert toy.train(tmp_path, resume=True)
    assert files(tmp_path) == ['epoch_2.pth', 'epoch_3.pth']
    assert_same(toy.result(tmp_path), uninterrupted())


def test_unwritten_curves_stop_nothing(tmp_path, monkeypatch, capfd, uninterrupted):
    """Each line of curves is written twice; three have no room at first."""

    def fill_disk(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for number in (3, 4, 7):
        strike_at_call(monkeypatch, LocalVisBackend, '_dump', number, fill_disk)
    assert toy.train(tmp_path)
    said = ''.join(capfd.readouterr())
    assert 'No space left on device. Training goes on' in said
    assert len(toy.logged(tmp_path)) == len(uninterrupted()['log']) - 3


def test_the_last_save_gets_a_second_chance(tmp_path, monkeypatch):
    strike_at_call(monkeypatch, LocalBackend, 'put', 3, fill_disk)
    assert toy.train(tmp_path)
    assert newest(tmp_path) == 'epoch_3.pth'


def test_an_unsaved_result_is_an_error(tmp_path, monkeypatch):
    strike_at_call(monkeypatch, LocalBackend, 'put', 3, fill_disk)
    strike_at_call(monkeypatch, LocalBackend, 'put', 4, fill_disk)
    with pytest.raises(OSError, match='epoch_3.pth, could not be written'):
        toy.train(tmp_path)
    assert newest(tmp_path) == 'epoch_2.pth'


@HOOKS.register_module()
class RisingHook(Hook):
    """A metric that improves with every evaluation."""
    priority = 'HIGHEST'

    def after_val_epoch(self, runner, metrics):
        metrics['acc'] = float(runner.epoch)


BEST = dict(
    checkpoint=dict(max_keep_ckpts=1, save_best='acc', rule='greater'),
    hooks=[dict(type='RisingHook')])


def test_the_best_one_is_replaced_by_a_better_one(tmp_path):
    assert toy.train(tmp_path, **BEST)
    assert files(tmp_path) == ['best_acc_epoch_3.pth', 'epoch_3.pth']


@pytest.mark.parametrize('strike', [fill_disk, kill_half_way])
def test_the_best_one_is_never_lost(tmp_path, monkeypatch, strike):
    # Each epoch writes: regular, best, regular with the best one's name.
    strike_at_call(monkeypatch, LocalBackend, 'put', 5, strike)
    train = toy.train(tmp_path, **BEST, train_cfg=dict(by_epoch=True, max_epochs=2))
    assert (train is None) == (strike is kill_half_way)
    best = tmp_path / 'best_acc_epoch_1.pth'
    assert damage(str(best)) is None
    monkeypatch.undo()
    assert toy.train(tmp_path, **BEST, resume=True)
    assert files(tmp_path) == ['best_acc_epoch_3.pth', 'epoch_3.pth']


def test_resume_skips_a_damaged_newest_one(tmp_path, capfd, uninterrupted):
    killed = [dict(type='KillHook', stage='after_train_iter', iteration=17)]
    assert toy.train(tmp_path, hooks=killed) is None
    os.truncate(tmp_path / 'epoch_2.pth', 2000)
    assert toy.train(tmp_path, resume=True)
    said = ''.join(capfd.readouterr())
    assert f'{tmp_path}/epoch_2.pth is incomplete' in said
    assert f'Resuming from {tmp_path}/epoch_1.pth instead' in said
    assert_same(toy.result(tmp_path), uninterrupted())


def test_two_processes_agree_on_a_failure(tmp_path, monkeypatch):
    """Only rank 0 sees the full disk; both would wait for each other."""
    strike_at_call(monkeypatch, LocalBackend, 'put', 3, fill_disk)
    assert toy.train_processes(tmp_path, 2) == [0, 0]
    assert newest(tmp_path) == 'epoch_3.pth'
