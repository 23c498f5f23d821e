"""Many trainings: recognised, continued, stopped together, told when they fail."""
import os
import signal
import subprocess
import time

import pytest
import torch

from mixedae_mm.utils.errors import ConfigurationError
from reproduce import fingerprints, scheduling, training_run
from reproduce.scheduling import ending_with_us, train_all
from reproduce.training_run import START, TrainingRun
from transfer.demo_transfer import forget_other_settings

# Stands for tools/train.py: writes a checkpoint, then measures.
TRAIN = '''
import json, os, pathlib, signal, sys, time
config, _, folder, _, *options = sys.argv[1:]
folder, options = pathlib.Path(folder), dict(o.split("=", 1) for o in options[1:])
checkpoint = folder / 'iter_2.pth'
with open(folder / 'lives', 'a') as lives:
    print(os.environ['DATA_ROOT'], os.environ['OMP_NUM_THREADS'],
          checkpoint.exists(), file=lives)
def stop(*_):
    print('saved', flush=True)
    sys.exit(75)
signal.signal(signal.SIGTERM, stop)
if 'interrupts' in options:
    os.kill(os.getppid(), signal.SIGTERM)
if 'sleep' in options:
    time.sleep(float(options['sleep']))
if 'reason' in options:
    sys.exit(int(options['reason']) if options['reason'].isdigit()
             else options['reason'])
checkpoint.touch()
log = folder / '20260101_000000/vis_data/scalars.json'
log.parent.mkdir(parents=True, exist_ok=True)
measured = {} if 'unmeasured' in options else dict(mIoU=12.5)
log.write_text(json.dumps(dict(iter=2, step=2, **measured)))
'''


@pytest.fixture
def run(tmp_path, monkeypatch):
    """``run(name, **options)``: a training of the stand-in."""
    script, config = tmp_path / 'train.py', tmp_path / 'config.py'
    script.write_text(TRAIN)
    config.write_text('a = 1')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/image.jpg').write_bytes(b'pixels')
    monkeypatch.setattr(training_run, 'TOOLS', tmp_path)
    monkeypatch.setattr(scheduling, 'POLL_SECONDS', 0.01)

    def make(name, needs=None, **options):
        return TrainingRun(
            name, tmp_path / name, config, options, tmp_path / 'data',
            'iter_2.pth', 2, needs=needs, metrics=('mIoU', ))

    return make


def lives(run):
    """What each start of a training saw."""
    return [line.split() for line in
            (run.folder / 'lives').read_text().splitlines()]


def changes(run):
    """As the next command sees them: each reads its files once."""
    fingerprints.path_fingerprint.cache_clear()
    fingerprints.weights_fingerprint.cache_clear()
    return run.changes()


def test_what_is_finished_is_not_repeated(run, tmp_path):
    first, told = run('first'), []
    train_all([first], 2, 3, told.append)
    assert first.is_finished and first.steps_done() == 2
    second = run('second', needs=first)
    train_all([first, second], 2, 3, told.append)
    assert lives(first) == lives(second) == [[str(tmp_path / 'data'), '3', 'False']]
    assert [line.split(';')[0] for line in told] == ['finished first',
                                                     'finished second']
    assert '100 % done' in told[-1]


def test_what_was_not_measured_is_not_finished(run):
    """Killed after the last checkpoint: resuming it measures."""
    train = run('one')
    train.folder.mkdir()
    train.checkpoint.touch()
    log = train.folder / '20250101_000000/vis_data/scalars.json'
    log.parent.mkdir(parents=True)
    log.write_text('{"loss": 1.0, "step": 2, "iter": 2}\n')
    assert not train.is_finished
    log.write_text('{"mIoU": 3.0, "step": 1}\n{"loss": 1.0, "step": 2, "iter": 2}\n')
    assert not train.is_finished  # measured halfway only
    train_all([train], 1, 1, print)
    assert train.is_finished and lives(train)[0][-1] == 'True'


def save(path, value):
    torch.save(dict(state_dict=dict(weight=torch.tensor([value])),
                    meta=dict(saved_at=time.time())), path)


@pytest.mark.parametrize('key', [
    START, 'load_from', 'model.neck.init_cfg.checkpoint',
    'model.init_cfg.0.checkpoint'])
def test_a_run_is_recognised_by_its_weights(run, tmp_path, key):
    """Wherever they lie and whenever they were saved."""
    weights, moved = tmp_path / 'a.pth', tmp_path / 'b.pth'
    save(weights, 1.0)
    one = run('one', **{key: str(weights)})
    train_all([one], 1, 1, print)
    assert changes(one) == []
    weights.rename(moved)
    moved_run = one._replace(options={key: str(moved)})
    assert changes(moved_run) == []
    save(moved, 1.0)
    assert changes(moved_run) == []
    save(weights, 2.0)  # others under the old name
    assert changes(one)[0].startswith(f'{key} was ')
    with pytest.raises(ConfigurationError, match='one holds a run of another setting'):
        train_all([one], 1, 1, print)


def test_a_run_is_recognised_by_the_number_of_its_processes(run):
    one = run('one')
    train_all([one], 1, 1, print)
    assert one._replace(processes=2).changes() == ['processes was unset, is 2']


def test_a_run_is_recognised_by_its_images_and_options(run, tmp_path):
    image, others = tmp_path / 'data/image.jpg', tmp_path / 'others'
    others.mkdir()
    (others / 'image.jpg').write_bytes(b'pixels')
    one = run('one', b=2, pair=(1, 2), **{'val.data_root': str(others)})
    train_all([one], 1, 1, print)
    assert changes(one) == []
    assert changes(one._replace(options={**one.options, 'b': 3})) == ['b was 2, is 3']
    (others / 'image.jpg').write_bytes(b'slepix')
    assert changes(one)[0].startswith('val.data_root was ')
    (others / 'image.jpg').write_bytes(b'pixels')
    image.write_bytes(b'slepix')  # as many bytes
    assert changes(one)[0].startswith('images was ')
    image.write_bytes(b'pixels')
    assert changes(one) == []
    (tmp_path / 'data').rename(tmp_path / 'moved')
    assert changes(one._replace(data=tmp_path / 'moved')) == []


def test_the_transfer_demo_does_a_changed_training_anew(run, capsys):
    same, changed = run('same'), run('changed')
    train_all([same, changed], 2, 1, print)
    forget_other_settings([same, changed._replace(options=dict(lr=0.1))])
    assert same.is_finished and not changed.folder.exists()
    assert 'changed is done anew: lr was unset, is 0.1' in capsys.readouterr().out


def test_a_result_of_unknown_origin_is_not_taken(run):
    one = run('one')
    train_all([one], 1, 1, print)
    (one.folder / training_run.SETTING).unlink()
    with pytest.raises(ConfigurationError, match=f'no {training_run.SETTING}'):
        train_all([one], 1, 1, print)


def test_a_failure_stops_the_others_and_tells_its_last_line(run):
    slow, failing, never = run('slow', sleep=60), run('bad', reason='no disk'), (
        run('never'))
    begun = time.time()
    with pytest.raises(ConfigurationError, match=(
            r'training of bad ended with status 1 \("no disk"\); its output is '
            r'in .*bad/train.log')):
        train_all([slow, failing, never], 2, 1, print)
    assert time.time() - begun < 50
    assert not slow.is_finished and not never.folder.exists()


def test_a_signal_stops_all_and_says_that_they_go_on(run):
    slow, never, told = run('slow', sleep=60, interrupts=True), run('never'), []
    with pytest.raises(SystemExit) as stopped:
        train_all([slow, never], 1, 1, told.append)
    assert stopped.value.code == scheduling.INTERRUPTED
    assert told[-1].startswith('SIGTERM: the trainings saved a checkpoint')
    assert slow.log.read_text() == 'saved\n' and not never.folder.exists()


def test_time_that_is_up_interrupts(run):
    slow, told = run('slow', sleep=60), []
    with pytest.raises(SystemExit) as stopped:
        train_all([slow], 1, 1, told.append, deadline=time.time())
    assert stopped.value.code == scheduling.INTERRUPTED
    assert told[-1].startswith('The time is up') and not slow.is_finished


def test_a_child_ends_with_us():
    child = subprocess.Popen(['sleep', '60'])
    with ending_with_us(child):
        os.kill(os.getpid(), signal.SIGTERM)
        assert child.wait() == -signal.SIGTERM
