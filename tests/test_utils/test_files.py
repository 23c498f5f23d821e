"""Files are whole or not there, whatever happens while they are written."""
import os
import time
from pathlib import Path

import preloaded
import pytest

from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import atomically, lock, write_atomically


def make(path, content, kind):
    """A file, or a folder with one file."""
    if kind == 'folder':
        path.mkdir()
        path = path / 'inside'
    path.write_text(content)


def content(path):
    return (path / 'inside' if path.is_dir() else path).read_text()


@pytest.mark.parametrize('kind', ['file', 'folder'])
@pytest.mark.parametrize('before', ['file', 'folder', None])
def test_it_takes_the_place(tmp_path, kind, before):
    path = tmp_path / 'result.json'
    if before:
        make(path, 'old', before)
    with atomically(path) as temporary:
        make(temporary, 'new', kind)
        assert temporary.suffix == '.json'  # NumPy adds its own to others
        assert not before or content(path) == 'old'
    assert content(path) == 'new'
    assert os.listdir(tmp_path) == ['result.json']


@pytest.mark.parametrize('kind', ['file', 'folder'])
def test_an_error_leaves_what_was_there(tmp_path, kind):
    path = tmp_path / 'result.json'
    make(path, 'old', kind)
    with pytest.raises(RuntimeError), atomically(path) as temporary:
        make(temporary, 'half', kind)
        raise RuntimeError
    assert content(path) == 'old'
    assert os.listdir(tmp_path) == ['result.json']


def test_text_and_bytes(tmp_path):
    write_atomically(tmp_path / 'a', 'größer')
    assert (tmp_path / 'a').read_bytes() == 'größer'.encode()
    write_atomically(str(tmp_path / 'a'), b'\xff\n')
    assert (tmp_path / 'a').read_bytes() == b'\xff\n'


def hold(path):
    with lock(path, 'taken'):
        Path(f'{path}.held').touch()
        time.sleep(60)


def test_a_lock_is_held_by_one_process(tmp_path):
    """Until it ends, also by SIGKILL; the content of the file stays."""
    path = tmp_path / 'lock'
    path.write_text('settings')
    holder = preloaded.process(hold, path)
    while not (tmp_path / 'lock.held').exists():
        assert holder.exitcode is None
        time.sleep(0.05)
    with pytest.raises(ConfigurationError, match='in use'), lock(path, 'in use'):
        pass
    holder.kill()
    holder.join()
    with lock(path, 'in use'):
        assert path.read_text() == 'settings'
