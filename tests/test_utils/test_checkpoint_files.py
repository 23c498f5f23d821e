"""Half a checkpoint is never taken for a whole one."""
import os

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.logging import HistoryBuffer
from strangers import Malicious

from mixedae_mm.utils.checkpoint_files import (
    damage, find_resumable_checkpoint, is_own_checkpoint, progress)
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_atomically


pytestmark = pytest.mark.usefixtures('warned')


def save(path, age=0, iterations=0):
    meta = dict(iter=iterations, epoch=0, time=np.float64(1.))
    torch.save(dict(state_dict=dict(weight=torch.arange(1000.)), meta=meta,
                    message_hub=dict(loss=HistoryBuffer())), path)
    os.utime(path, (1e9 - age, 1e9 - age))
    return str(path)


def point_to(path):
    write_atomically(os.path.join(os.path.dirname(path), 'last_checkpoint'), path)


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp('whole') / 'epoch_1.pth'
    return open(save(path), 'rb').read()


@settings(max_examples=50)
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
    for rank in range(2):
        save(folder / f'rank{rank}.pth')
    assert 'complete' in damage(str(folder))
    (folder / 'complete').touch()
    assert damage(str(folder)) is None
    (folder / 'rank1.pth').write_bytes(whole[:100])
    assert 'incomplete' in damage(str(folder))


def test_progress_is_read_without_running_code(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert progress(save(tmp_path / 'a.pth', iterations=7)) == 7
    torch.save(dict(meta=dict(iter=3, stranger=Malicious()), message_hub={}), 'b.pth')
    assert progress('b.pth') == 3
    torch.save(dict(weight=torch.ones(3)), 'weights.pth')
    assert progress('weights.pth') is None
    assert not os.path.exists('executed')


def test_a_new_run_has_none(tmp_path):
    assert find_resumable_checkpoint(str(tmp_path)) is None
    (tmp_path / 'last_checkpoint').touch()
    assert find_resumable_checkpoint(str(tmp_path)) is None


@pytest.mark.parametrize('named', ['elsewhere', 'first'])
def test_a_moved_or_copied_work_dir_is_left_alone(tmp_path, named):
    """Whether the folder that the pointer names is still there or not."""
    for name in ('first', 'copy'):
        (tmp_path / name).mkdir()
        path = save(tmp_path / name / 'epoch_2.pth')
    write_atomically(tmp_path / 'copy/last_checkpoint',
                     str(tmp_path / named / 'epoch_2.pth'))
    assert find_resumable_checkpoint(str(tmp_path / 'copy')) == path


def test_only_damaged_ones_are_an_error(tmp_path, whole):
    for name in ('epoch_1.pth', 'epoch_2.pth'):
        (tmp_path / name).write_bytes(whole[:1000])
    point_to(str(tmp_path / 'epoch_2.pth'))
    with pytest.raises(ConfigurationError, match='epoch_2.pth, epoch_1.pth'):
        find_resumable_checkpoint(str(tmp_path))


def test_without_a_pointer_the_one_that_came_furthest_is_taken(tmp_path):
    """Copies are as old as the order in which they were made."""
    save(tmp_path / 'epoch_10.pth', age=1, iterations=1000)
    furthest = save(tmp_path / 'interrupted_iter_1100.pth', age=9, iterations=1100)
    save(tmp_path / 'epoch_9.pth', age=0, iterations=900)
    torch.save(dict(weight=torch.ones(3)), tmp_path / 'mae.pth')  # not ours
    save(tmp_path / '.epoch_12.partial-1.pth', iterations=1200)
    assert find_resumable_checkpoint(str(tmp_path)) == furthest
    os.truncate(furthest, 1000)
    assert find_resumable_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')


@pytest.mark.parametrize('age, expected', [(1, 'epoch_5.pth'), (9, 'epoch_2.pth')])
def test_files_beside_the_named_one(tmp_path, age, expected):
    """One that is newer and further is taken, an earlier run's is not."""
    save(tmp_path / 'epoch_5.pth', age=age, iterations=50)
    point_to(save(tmp_path / 'epoch_2.pth', age=3, iterations=20))
    assert find_resumable_checkpoint(str(tmp_path)).endswith(expected)


def test_of_files_of_one_age_the_one_that_came_furthest_is_taken(tmp_path):
    """Beside a named one that is damaged."""
    for epoch in (3, 9, 10, 4):
        save(tmp_path / f'epoch_{epoch}.pth', iterations=epoch)
    named = save(tmp_path / 'epoch_11.pth')
    point_to(named)
    os.truncate(named, 1000)
    os.utime(named, (1e9, 1e9))
    assert find_resumable_checkpoint(str(tmp_path)) == str(tmp_path / 'epoch_10.pth')


@pytest.mark.parametrize('named', [True, False])
def test_checkpoints_elsewhere(tmp_path, named):
    run, elsewhere = tmp_path / 'run', tmp_path / 'out/run'
    run.mkdir(), elsewhere.mkdir(parents=True)
    path = save(elsewhere / 'epoch_2.pth', iterations=2)
    if named:
        write_atomically(run / 'last_checkpoint', path)
    assert find_resumable_checkpoint(str(run), str(tmp_path / 'out')) == path
    assert is_own_checkpoint(path, str(run), str(tmp_path / 'out'))
    assert is_own_checkpoint(path, str(run)) == named
    assert not is_own_checkpoint(str(tmp_path / 'out/other.pth'), str(run))
