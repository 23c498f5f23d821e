"""Half a checkpoint is never taken for a whole one."""
import os

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mixedae_mm.engine.resume import checkpoint_files
from mixedae_mm.engine.resume.checkpoint_files import (commit, damage,
                                                find_resumable_checkpoint,
                                                write_text)
from mixedae_mm.utils.errors import ConfigurationError


def save(path, age=0):
    torch.save(dict(state_dict=dict(weight=torch.arange(1000.))), path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return str(path)


def point_to(path):
    write_text(os.path.join(os.path.dirname(path), 'last_checkpoint'), path)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp('whole') / 'epoch_1.pth'
    return open(save(path), 'rb').read()


@settings(max_examples=50, deadline=None)
@given(data=st.data())
def test_truncation_is_noticed_wherever_it_is(tmp_path_factory, whole, data):
    size = data.draw(st.integers(0, len(whole) - 1))
    path = tmp_path_factory.mktemp('cut') / 'epoch_1.pth'
    path.write_bytes(whole[:size])
    assert 'incomplete' in damage(str(path))


def test_changed_weights_are_noticed(tmp_path, whole):
    assert damage(save(tmp_path / 'whole.pth')) is None
    # Somewhere among 1000 consecutive floats.
    place = whole.index(torch.arange(500., 501.).numpy().tobytes())
    changed = bytearray(whole)
    changed[place + 1] ^= 1
    (tmp_path / 'changed.pth').write_bytes(changed)
    assert 'checksum' in damage(str(tmp_path / 'changed.pth'))


def test_sharded_checkpoints_need_every_shard(tmp_path, whole):
    folder = tmp_path / 'epoch_1.pth'
    folder.mkdir()
    assert damage(str(folder)) == 'is empty'
    for rank in range(2):
        save(folder / f'rank{rank}.pth')
    assert damage(str(folder)) is None
    (folder / 'rank1.pth').write_bytes(whole[:100])
    assert 'incomplete' in damage(str(folder))


def test_a_new_run_has_none(tmp_path):
    assert find_resumable_checkpoint(str(tmp_path)) is None
    (tmp_path / 'last_checkpoint').touch()
    assert find_resumable_checkpoint(str(tmp_path)) is None


def test_the_newest_is_taken(tmp_path):
    save(tmp_path / 'epoch_1.pth', age=2)
    newest = save(tmp_path / 'epoch_2.pth', age=1)
    point_to(newest)
    assert find_resumable_checkpoint(str(tmp_path)) == newest


@pytest.mark.parametrize('fault', ['cut', 'lost'])
def test_the_one_before_replaces_a_damaged_one(tmp_path, monkeypatch, fault):
    log = []
    monkeypatch.setattr(checkpoint_files, 'print_log',
                        lambda message, *args: log.append(message))
    save(tmp_path / 'epoch_1.pth', age=4)
    before = save(tmp_path / 'epoch_2.pth', age=3)
    newest = save(tmp_path / 'epoch_3.pth', age=2)
    save(tmp_path / 'best_acc_epoch_1.pth', age=1)  # has no optimizer
    point_to(newest)
    if fault == 'cut':
        os.truncate(newest, os.path.getsize(newest) // 2)
    else:
        os.remove(newest)
    assert find_resumable_checkpoint(str(tmp_path)) == before
    said = '\n'.join(log)
    assert newest in said and f'Resuming from {before} instead' in said
    assert ('is incomplete' if fault == 'cut' else 'does not exist') in said


def test_a_moved_work_dir_is_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint_files, 'print_log', lambda *args: None)
    moved = save(tmp_path / 'epoch_2.pth')
    write_text(str(tmp_path / 'last_checkpoint'), '/elsewhere/epoch_2.pth')
    assert find_resumable_checkpoint(str(tmp_path)) == moved


def test_only_damaged_ones_are_an_error(tmp_path, whole):
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (tmp_path / name).write_bytes(whole[:1000])
    point_to(str(tmp_path / 'epoch_2.pth'))
    with pytest.raises(ConfigurationError, match='epoch_2.pth, epoch_1.pth'):
        find_resumable_checkpoint(str(tmp_path))


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_commit_replaces(tmp_path, kind):
    for name in ('new.partial', 'final'):
        path = tmp_path / name
        if kind == 'folder':
            path.mkdir()
            path = path / 'rank0.pth'
        path.write_text(name)
    commit(str(tmp_path / 'new.partial'), str(tmp_path / 'final'))
    path = tmp_path / 'final'
    assert (path / 'rank0.pth' if kind == 'folder' else
            path).read_text() == 'new.partial'
    assert os.listdir(tmp_path) == ['final']
