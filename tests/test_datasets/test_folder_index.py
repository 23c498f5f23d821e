"""Listing folders of images."""
import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from images import save
from mmengine.dist import all_gather_object, get_rank

import mixedae_mm
from mixedae_mm.analysis.loading import find_images
from mixedae_mm.apis.encoder import images_of
from mixedae_mm.apis.features import write_features
from mixedae_mm.datasets import EXTENSIONS, UnlabelledImageFolder, folder_index
from mixedae_mm.datasets.folder_index import (FolderIndex, index_folder,
                                              natural_key, scan_folder)
from mixedae_mm.datasets.other_files import describe_files
from mixedae_mm.utils.errors import ConfigurationError
from reliability.lives import in_processes
from test_interop.foreign_checkpoints import mixedae_model, mm_checkpoint


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_natural_order_at_any_depth(tmp_path):
    touch(tmp_path, 'img10.jpg', 'img2.jpg', 'b10/1.PNG', 'b9/x/y/z.webp', 'b9/a.tif',
          'img02.jpg', 'notes.txt', '.hidden.jpg', '.cache/a.jpg', 'folder.jpg/1.jpg')
    images, others = scan_folder(str(tmp_path), EXTENSIONS)
    assert others == ['notes.txt']
    assert images == [
        'img02.jpg', 'img2.jpg', 'img10.jpg', 'b9/a.tif', 'b9/x/y/z.webp',
        'b10/1.PNG', 'folder.jpg/1.jpg'
    ]


@given(st.lists(st.text(alphabet='ab0129._', max_size=8), max_size=12))
def test_natural_key_orders_everything(names):
    ordered = sorted(names, key=natural_key)
    assert sorted(reversed(names), key=natural_key) == ordered
    numbers = sorted(f'a{number}b' for number in range(120))
    assert sorted(numbers, key=natural_key) == [f'a{n}b' for n in range(120)]


def test_links_are_followed_but_never_in_a_circle(tmp_path):
    """Opening a pipe would wait for a writer for ever."""
    touch(tmp_path, 'data/a/1.jpg', 'elsewhere/2.jpg')
    os.symlink(tmp_path / 'elsewhere', tmp_path / 'data' / 'linked')
    os.symlink(tmp_path / 'data', tmp_path / 'data' / 'a' / 'circle')
    os.symlink(tmp_path / 'gone.jpg', tmp_path / 'data' / 'dangling.jpg')
    os.mkfifo(tmp_path / 'data' / 'pipe.jpg')
    images, others = scan_folder(str(tmp_path / 'data'), EXTENSIONS)
    assert images == ['a/1.jpg', 'linked/2.jpg']
    assert sorted(others) == ['dangling.jpg', 'pipe.jpg']


def test_names_of_any_bytes_and_of_all_jpegs(tmp_path, warned):
    names = ['a\nb.jpg', 'ü.jpg', os.fsdecode(b'\xff\xfe.jpg'), 'a b.jpg', 'b.JPEG',
             'c.jfif', 'd.jpe', 'e.JFIF']
    touch(tmp_path, *names, '.hidden', 'Thumbs.db')
    assert sorted(index_folder(str(tmp_path)).paths()) == sorted(names)
    assert not warned  # nothing is left out


def test_index_is_compact():
    index = FolderIndex.from_paths([b'abc', b'', b'de'])
    assert index.names.dtype == np.uint8 and index.names.nbytes == 5
    assert index.ends.tolist() == [3, 3, 5] and index.ends.dtype == np.int64


def test_refusals_name_the_folder_and_where_it_comes_from(tmp_path, monkeypatch):
    touch(tmp_path, 'a/notes.txt', 'file')
    monkeypatch.setenv('DATA_ROOT', str(tmp_path / 'a'))
    for folder, facts in (
        ('no', [f'Cannot list the image folder {tmp_path}/no: No such']),
        ('file', ['file: Not a directory']),
        ('', [f'folder {tmp_path}:', *EXTENSIONS, '1 .txt (a/notes.txt)']),
        ('a', [f'{tmp_path}/a (from the environment variable DATA_ROOT={tmp_path}/a)']),
    ):
        with pytest.raises(ConfigurationError) as caught:
            index_folder(str(tmp_path / folder))
        assert all(fact in str(caught.value) for fact in facts)


def test_what_is_left_out_is_named_and_counted(tmp_path, warned):
    touch(tmp_path, '1.jpg', 'README', 'notes.txt', 'b/more.TXT', 'b/x.heic',
          '.DS_Store', 'Thumbs.db', 'b/desktop.ini', '.git/config')
    os.symlink(tmp_path / 'gone.jpg', tmp_path / 'dangling.jpg')
    index_folder(str(tmp_path))
    message, = warned
    assert str(tmp_path) in message
    for fact in ('2 .txt (', 'notes.txt', 'b/more.TXT', '1 .heic (b/x.heic)',
                 '1 without an extension (README)', '(dangling.jpg)'):
        assert fact in message
    for hidden in ('DS_Store', 'humbs', 'desktop.ini', 'config'):
        assert hidden not in message


def test_long_lists_are_cut_but_counted():
    names = [f'{i}.txt' for i in range(50)] + [f'x.{letter}' for letter in 'abcdefgh']
    said = describe_files(names)
    assert said.startswith('50 .txt (0.txt, 1.txt, 2.txt, ...)')
    assert said.endswith('3 others') and len(said) < 300
    assert '\ufffd' in describe_files([os.fsdecode(b'\xff')])


def failing_scandir(monkeypatch, number, times):
    """Listing a folder called `b` fails so many times."""
    scandir, calls = os.scandir, []

    def scan(path):
        if os.path.basename(path) == 'b' and len(calls) < times:
            calls.append(path)
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, 'scandir', scan)
    monkeypatch.setattr('time.sleep', lambda seconds: None)


def test_passing_errors_of_a_network_lose_no_folder(tmp_path, monkeypatch):
    touch(tmp_path, 'a/1.jpg', 'b/2.jpg')
    failing_scandir(monkeypatch, errno.EIO, 2)
    assert list(index_folder(str(tmp_path)).paths()) == ['a/1.jpg', 'b/2.jpg']
    failing_scandir(monkeypatch, errno.ESTALE, 10**6)
    with pytest.raises(ConfigurationError, match=f'{tmp_path}/b'):
        index_folder(str(tmp_path))


def test_forbidden_folders_are_left_out_and_named(tmp_path, monkeypatch, warned):
    touch(tmp_path, 'a/1.jpg', 'b/2.jpg')
    failing_scandir(monkeypatch, errno.EACCES, 10**6)
    assert list(index_folder(str(tmp_path)).paths()) == ['a/1.jpg']
    message, = warned
    assert f'{tmp_path}/b' in message


def list_a_folder(folder):
    """What each rank of a distributed run finds and says."""
    alone = None
    if get_rank() == 1:  # nothing of this waits for the other
        encoder = mixedae_mm.load(f'{folder}.pth', 'cpu')
        alone = [len(find_images(folder)), len(list(images_of(folder))),
                 len(UnlabelledImageFolder(folder, listed_together=False)),
                 len(encoder.encode(folder).cls),
                 write_features(folder, f'{folder}.parquet', encoder,
                                num_workers=0).num_images]
    scans, said = [], []
    folder_index.scan_folder = lambda *args: scans.append(1) or scan_folder(*args)
    names = UnlabelledImageFolder(folder).data_bytes.tobytes().decode()
    number = len(scans)

    def fail(*args):
        raise RuntimeError('unforeseen')

    for change in ({}, dict(scan_folder=fail)):
        vars(folder_index).update(change)
        try:
            UnlabelledImageFolder(f'{folder}/missing')
        except Exception as error:
            said.append(str(error))
    return all_gather_object((alone, number, names, said))


@pytest.mark.slow
def test_several_processes(tmp_path):
    """The training set is listed once for all; nothing else waits for others."""
    pytest.importorskip('pyarrow')
    for number in (1, 2):
        save(tmp_path / f'images/{number}.jpg', (9, 9))
    mm_checkpoint(tmp_path / 'images.pth', mixedae_model())
    ranks = in_processes(list_a_folder, 2, str(tmp_path / 'images'))
    assert [alone for alone, *_ in ranks] == [None, [2] * 5]
    for rank, (_, scans, names, said) in enumerate(ranks):
        assert names == '1.jpg2.jpg' and scans == 1 - rank
        # In both, and no hang: whatever went wrong in the first process.
        assert 'Cannot list the image folder' in said[0] and said[1] == 'unforeseen'
