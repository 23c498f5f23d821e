"""Runs that something goes wrong with: full disk, signals, dead workers, bad files."""
import os
import subprocess

import pytest

from .images import write_awkward, write_noise
from .lives import live
from .small_runs import pretraining
from .traces import traces

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    return str(tmp_path_factory.mktemp('faults') / 'images')


@pytest.fixture(scope='module')
def unharmed(images, tmp_path_factory):
    """What the run leaves that nothing happens to."""
    work_dir = str(tmp_path_factory.mktemp('unharmed') / 'run')
    life = live(pretraining(images), work_dir)
    assert life.statuses == [0], life.said
    return traces(work_dir)


@pytest.fixture
def run(images, tmp_path, tell, request):
    """Live once in the same work folder; tell the lines that say so."""

    def run(*faults, status, said=(), folder=images, **dataset):
        cfg = pretraining(folder)
        cfg.train_dataloader.dataset.update(dataset)
        life = live(cfg, str(tmp_path / 'run'),
                    *[dict(type='FaultHook', **fault) for fault in faults])
        assert life.statuses == [status], life.said
        tell(f'{request.node.name}: exit status {status}')
        for text in said:
            lines = [line for line in life.said.splitlines() if text in line]
            assert lines, f'nothing was said of {text}:\n{life.said}'
            tell(f'    | {lines[-1]}')
        return life.said

    return run


def test_full_disk(run, unharmed, tmp_path):
    """It is full for some iterations, a checkpoint's among them."""
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', work_dir],
        capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f'a small tmpfs could not be mounted ({mounted.stderr.strip()}); '
                    'unshare --map-root-user --mount COMMAND may help')
    try:
        run(dict(iteration=10, what='fill'), dict(iteration=16, what='free'),
            status=0, said=['No space left on device'])
        assert traces(work_dir) == unharmed
    finally:
        subprocess.run(['umount', work_dir], check=True)


def test_truncated_checkpoint(run, unharmed, tmp_path):
    """The newest checkpoint of a killed run is cut in the middle."""
    run(dict(iteration=20, what='kill'), status=-9)
    newest = tmp_path / 'run/iter_14.pth'
    os.truncate(newest, newest.stat().st_size // 2)
    run(status=0, said=['iter_14.pth', 'iter_7.pth'])
    assert traces(tmp_path / 'run') == unharmed


@pytest.mark.parametrize('fault, status, said, resumed', [
    # Of a scheduler that wants the machine back, or of SLURM before its limit.
    (dict(what='signal', name='SIGTERM'), 75, 'SIGTERM', ['interrupted_iter_11.pth']),
    (dict(what='signal', name='SIGUSR1'), 75, 'SIGUSR1', ['interrupted_iter_11.pth']),
    # As when memory runs out. PyTorch's or the broken connection's error comes first.
    (dict(what='worker'), 1, 'Error: ', [])], ids=['SIGTERM', 'SIGUSR1', 'dead worker'])
def test_interruption(run, unharmed, tmp_path, fault, status, said, resumed):
    run(dict(iteration=10, **fault), status=status, said=[said])
    run(status=0, said=resumed)
    assert traces(tmp_path / 'run') == unharmed


def test_nan_loss(run, tmp_path):
    """A weight becomes NaN: batch and weights are kept, and the run stops."""
    run(dict(iteration=10, what='poison'), status=1, said=['iteration 12'])
    assert (tmp_path / 'run/nonfinite/iter_12_rank_0.pth').is_file()
    assert (tmp_path / 'run/last_checkpoint').read_text().endswith('iter_7.pth')


def test_corrupt_images(run, tmp_path):
    """One image in twenty is damaged."""
    folder = str(tmp_path / 'images')
    write_noise(folder, 400, cut=20)
    run(folder=folder, status=2, said=['max_bad_share'])
    said = run(folder=folder, max_bad_share=0.1, status=0, said=['unreadable'])
    assert f'{folder}/' in said


def test_awkward_images(run, tmp_path, tell):
    """Files that a folder of images should not have, but has."""
    folder = tmp_path / 'images'
    write_noise(str(folder), 40)
    refused = write_awkward(str(folder))
    said = run(folder=str(folder), max_bad_share=0.9, status=0,
               said=[str(folder / name) for name in refused])
    used = {path.name for path in folder.iterdir()} - set(refused)
    assert not [name for name in used if str(folder / name) in said]
    tell('    used: ' + ', '.join(sorted(name for name in used if name[0].isalpha())))
