"""Listing folders, and remembering the lists."""
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixedae_mm.datasets import EXTENSIONS, folder_index
from mixedae_mm.datasets.folder_index import (FolderIndex, index_folder,
                                              natural_key, scan_folder)
from mixedae_mm.utils.errors import ConfigurationError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def paths_of(index):
    begins = np.concatenate([[0], index.ends[:-1]])
    return [
        os.fsdecode(index.names[begin:end].tobytes())
        for begin, end in zip(begins, index.ends)
    ]


@pytest.fixture
def cached(monkeypatch):
    """Caching of small lists and of folders that were only just made."""
    monkeypatch.setattr(folder_index, 'MIN_IMAGES_TO_CACHE', 1)
    monkeypatch.setattr(folder_index, 'SETTLED_AFTER_SECONDS', -10)


@pytest.fixture
def scans(monkeypatch):
    """Counts how often a folder is listed."""
    calls = []

    def scan(*args):
        calls.append(args)
        return scan_folder(*args)

    monkeypatch.setattr(folder_index, 'scan_folder', scan)
    return calls


def test_natural_order_at_any_depth(tmp_path):
    touch(tmp_path, 'img10.jpg', 'img2.jpg', 'b10/1.PNG', 'b9/x/y/z.webp', 'b9/a.tif',
          'img02.jpg', 'notes.txt', '.hidden.jpg', '.cache/a.jpg', 'folder.jpg/1.jpg')
    images, folders, times = scan_folder(str(tmp_path), EXTENSIONS)
    assert [os.fsdecode(path) for path in images] == [
        'img02.jpg', 'img2.jpg', 'img10.jpg', 'b9/a.tif', 'b9/x/y/z.webp',
        'b10/1.PNG', 'folder.jpg/1.jpg'
    ]
    assert len(folders) == len(times) == 6
    assert all(os.path.isdir(folder) for folder in folders)


@given(st.lists(st.text(alphabet='ab0129._', max_size=8), max_size=12))
def test_natural_key_orders_everything(names):
    ordered = sorted(names, key=natural_key)
    assert sorted(reversed(names), key=natural_key) == ordered
    numbers = sorted(f'a{number}b' for number in range(120))
    assert sorted(numbers, key=natural_key) == [f'a{n}b' for n in range(120)]


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    touch(tmp_path, 'data/a/1.jpg', 'elsewhere/2.jpg')
    os.symlink(tmp_path / 'elsewhere', tmp_path / 'data' / 'linked')
    os.symlink(tmp_path / 'data', tmp_path / 'data' / 'a' / 'circle')
    os.symlink(tmp_path / 'gone.jpg', tmp_path / 'data' / 'dangling.jpg')
    images, _, _ = scan_folder(str(tmp_path / 'data'), EXTENSIONS)
    assert images == [b'a/1.jpg', b'linked/2.jpg']


def test_pipes_are_no_images(tmp_path):
    """Opening one would wait for a writer for ever."""
    touch(tmp_path, '1.jpg')
    os.mkfifo(tmp_path / '2.jpg')
    assert scan_folder(str(tmp_path), EXTENSIONS)[0] == [b'1.jpg']


def test_names_of_any_bytes(tmp_path):
    names = ['a\nb.jpg', 'ü.jpg', os.fsdecode(b'\xff\xfe.jpg'), 'a b.jpg']
    touch(tmp_path, *names)
    index = index_folder(str(tmp_path), EXTENSIONS, use_cache=False)
    assert sorted(paths_of(index)) == sorted(names)


def test_second_run_reads_the_list(tmp_path, cached, scans):
    touch(tmp_path, 'data/a/1.jpg', 'data/b/2.jpg')
    first, second = (
        index_folder(str(tmp_path / 'data'), EXTENSIONS, str(tmp_path / 'cache'))
        for _ in range(2))
    assert len(scans) == 1
    assert paths_of(first) == paths_of(second) == ['a/1.jpg', 'b/2.jpg']
    assert len(os.listdir(tmp_path / 'cache')) == 1


@pytest.mark.parametrize('change', [
    lambda data: touch(data, 'a/3.jpg'),
    lambda data: touch(data, 'c/3.jpg'),
    lambda data: os.remove(data / 'b' / '2.jpg'),
    lambda data: os.rename(data / 'b' / '2.jpg', data / 'b' / '4.jpg'),
    lambda data: os.rename(data / 'b', data / 'z'),
], ids=['add', 'add folder', 'remove', 'rename', 'rename folder'])
def test_changes_are_seen(change, tmp_path, cached, scans):
    touch(tmp_path, 'data/a/1.jpg', 'data/b/2.jpg')
    # Time stamps of the past, as the clock's ticks may be coarse.
    for folder in ('data/a', 'data/b', 'data'):
        os.utime(tmp_path / folder, (1e9, 1e9))
    arguments = str(tmp_path / 'data'), EXTENSIONS, str(tmp_path / 'cache')
    index_folder(*arguments)
    change(tmp_path / 'data')
    index = index_folder(*arguments)
    assert len(scans) == 2
    expected = [os.fsdecode(path) for path in scan_folder(*arguments[:2])[0]]
    assert paths_of(index) == expected


def test_other_extensions_are_another_list(tmp_path, cached, scans):
    touch(tmp_path, 'data/1.jpg', 'data/2.png')
    folder, cache = str(tmp_path / 'data'), str(tmp_path / 'cache')
    assert paths_of(index_folder(folder, ('.jpg', ), cache)) == ['1.jpg']
    assert paths_of(index_folder(folder, ('.png', ), cache)) == ['2.png']
    assert len(scans) == 2


@pytest.mark.parametrize('content', [b'', b'damaged' * 100, None])
def test_damaged_list_is_made_anew(content, tmp_path, cached, scans):
    touch(tmp_path, 'data/1.jpg')
    arguments = str(tmp_path / 'data'), EXTENSIONS, str(tmp_path / 'cache')
    index_folder(*arguments)
    file, = (tmp_path / 'cache').iterdir()
    file.write_bytes(file.read_bytes()[:-50] if content is None else content)
    assert paths_of(index_folder(*arguments)) == ['1.jpg']
    index_folder(*arguments)
    assert len(scans) == 2


def test_fresh_and_small_folders_are_not_remembered(tmp_path, monkeypatch):
    touch(tmp_path, 'data/1.jpg')
    arguments = str(tmp_path / 'data'), EXTENSIONS, str(tmp_path / 'cache')
    index_folder(*arguments)
    monkeypatch.setattr(folder_index, 'MIN_IMAGES_TO_CACHE', 1)
    index_folder(*arguments)  # a file may still arrive in this tick of the clock
    assert not (tmp_path / 'cache').exists()
    os.utime(tmp_path / 'data', (1e9, 1e9))
    index_folder(*arguments)
    assert len(os.listdir(tmp_path / 'cache')) == 1


def test_cache_that_cannot_be_written(tmp_path, cached):
    touch(tmp_path, 'data/1.jpg', 'cache')
    index = index_folder(str(tmp_path / 'data'), EXTENSIONS, str(tmp_path / 'cache'))
    assert paths_of(index) == ['1.jpg']


def test_index_is_compact():
    index = FolderIndex.from_paths([b'abc', b'', b'de'])
    assert index.names.dtype == np.uint8 and index.names.nbytes == 5
    assert index.ends.tolist() == [3, 3, 5] and index.ends.dtype == np.int64


def test_missing_folder(tmp_path):
    with pytest.raises(ConfigurationError,
                       match=f'Cannot list the image folder {tmp_path}/no: No such'):
        index_folder(str(tmp_path / 'no'), EXTENSIONS)
    touch(tmp_path, 'file')
    with pytest.raises(ConfigurationError, match='file: Not a directory'):
        index_folder(str(tmp_path / 'file'), EXTENSIONS)


def test_folder_without_images(tmp_path, monkeypatch):
    touch(tmp_path, 'a/notes.txt')
    monkeypatch.delenv('DATA_ROOT', raising=False)
    with pytest.raises(ConfigurationError) as caught:
        index_folder(str(tmp_path), EXTENSIONS)
    assert str(caught.value) == (
        f'No image in the folder {tmp_path}: looked at any depth for files that '
        f'end in {", ".join(EXTENSIONS)}.')
    monkeypatch.setenv('DATA_ROOT', str(tmp_path))
    with pytest.raises(ConfigurationError, match=(
            f'{tmp_path}/a .from the environment variable DATA_ROOT={tmp_path}.')):
        index_folder(str(tmp_path / 'a'), EXTENSIONS)


DISTRIBUTED = '''
import os, sys
import torch.distributed
from mixedae_mm.datasets import EXTENSIONS, folder_index
from mixedae_mm.utils.errors import ConfigurationError
rank, folder, port = int(sys.argv[1]), sys.argv[2], sys.argv[3]
torch.distributed.init_process_group(
    'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2)
scan_folder, scans = folder_index.scan_folder, []
folder_index.scan_folder = lambda *args: scans.append(1) or scan_folder(*args)
index = folder_index.index_folder(folder, EXTENSIONS)
print(len(scans), index.names.tobytes().decode())
try:
    folder_index.index_folder(folder + '/missing', EXTENSIONS)
except ConfigurationError as error:
    print(error)
'''


@pytest.mark.slow
def test_only_the_first_process_lists(tmp_path):
    touch(tmp_path, '1.jpg', '2.jpg')
    import socket
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, '-c', DISTRIBUTED, str(rank), str(tmp_path), str(port)],
            stdout=subprocess.PIPE, text=True) for rank in range(2)
    ]
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    for rank, output in enumerate(outputs):
        assert f'{1 - rank} 1.jpg2.jpg' in output
        assert 'Cannot list the image folder' in output  # in both, no hang
