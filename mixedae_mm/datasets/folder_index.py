"""List the images below a folder once, and remember the list.

The list is kept as one array of bytes and one of offsets: about as many bytes
as the paths have letters, shared by all worker processes.
"""
import hashlib
import logging
import os
import re
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Iterable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from mmengine import dist
from mmengine.logging import print_log

from ..utils.errors import ConfigurationError

# Smaller lists are made faster than anybody would notice.
MIN_IMAGES_TO_CACHE = 10_000
# A file added in the same tick of the clock as the listing would not change the
# folder's time stamp any more.
SETTLED_AFTER_SECONDS = 2.0
# Listing waits for the disk, above all for a network's.
NUM_THREADS = 16
CACHE_VERSION = 1

DIGITS = re.compile('([0-9]+)')


class FolderIndex(NamedTuple):
    """Paths relative to a folder, in natural order.

    Attributes:
        names (np.ndarray): uint8, the encoded paths, one after the other.
        ends (np.ndarray): int64, (number of images, ), where each path ends.
    """
    names: np.ndarray
    ends: np.ndarray

    @classmethod
    def from_paths(cls, paths: Iterable[bytes]) -> 'FolderIndex':
        paths = list(paths)
        names = np.frombuffer(b''.join(paths), dtype=np.uint8)
        ends = np.cumsum([len(path) for path in paths], dtype=np.int64)
        return cls(names, ends)


def index_folder(folder: str,
                 extensions: Sequence[str],
                 cache_dir: Optional[str] = None,
                 use_cache: bool = True) -> FolderIndex:
    """Index a folder in the first process and hand the result to all others.

    In a distributed run every process must call it. The list is read from a
    cache file if there is one and no folder in the tree has changed since
    (adding, removing or renaming a file changes its folder's time stamp).

    Args:
        folder (str): The folder; links to folders are followed, hidden files
            and folders (starting with a dot) are left out.
        extensions (Sequence[str]): Accepted extensions in lower case, with dot.
        cache_dir (str, optional): Where cache files are. Defaults to
            ``$XDG_CACHE_HOME/mixedae_mm/folders``, that is usually
            ``~/.cache/mixedae_mm/folders``.
        use_cache (bool): Whether to read and write cache files.

    Raises:
        ConfigurationError: If the folder is missing, cannot be listed or has
            no image, in every process.
    """
    message: list = [None, None]
    if dist.is_main_process():
        try:
            message[0] = _index_with_cache(folder, extensions, cache_dir,
                                           use_cache)
        except ConfigurationError as error:
            message[1] = str(error)
    dist.broadcast_object_list(message)
    index, error = message
    if error is not None:
        raise ConfigurationError(error)
    return index


def natural_key(name: str) -> tuple:
    """Sort key under which ``img2`` comes before ``img10``."""
    parts = DIGITS.split(name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def scan_folder(folder: str, extensions: Sequence[str]
                ) -> Tuple[List[bytes], List[str], List[int]]:
    """Walk through a folder.

    Returns:
        tuple: Relative paths of all images, encoded, in natural order of the
        folders and of the files in each; the folders; the time stamps that
        they had (nanoseconds).
    """
    extensions = tuple(extensions)
    listed, seen = [], set()

    def list_one(relative: str):
        path = os.path.join(folder, relative)
        try:
            status = os.stat(path)
            files, subfolders = [], []
            with os.scandir(path) as entries:
                for entry in entries:
                    name = entry.name
                    if name.startswith('.'):
                        continue
                    # By name first: it spares asking the disk about links.
                    if name.lower().endswith(extensions) and entry.is_file():
                        files.append(name)
                    elif entry.is_dir():
                        subfolders.append(name)
        except OSError as error:
            if not relative:
                raise
            print_log(
                f'Leaving out the folder {path}: {error.strerror}.',
                logger='current', level=logging.WARNING)
            return None
        files.sort(key=natural_key)
        prefix = os.path.join(relative, '')
        images = [os.fsencode(prefix + name) for name in files]
        subfolders = [prefix + name for name in sorted(subfolders)]
        identity = status.st_dev, status.st_ino
        return relative, identity, status.st_mtime_ns, images, subfolders

    # Folder by folder in breadth, those of one depth in parallel.
    level = ['']
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        while level:
            next_level = []
            for result in pool.map(list_one, level):
                # A folder that links lead to twice, or in a circle, counts once.
                if result is None or result[1] in seen:
                    continue
                seen.add(result[1])
                listed.append(result)
                next_level += result[-1]
            level = next_level
    listed.sort(key=lambda result: natural_key(result[0]))
    images = [image for *_, images, _ in listed for image in images]
    folders = [os.path.join(folder, relative) for relative, *_ in listed]
    return images, folders, [time_stamp for _, _, time_stamp, *_ in listed]


def _index_with_cache(folder, extensions, cache_dir, use_cache) -> FolderIndex:
    begin = time.time()
    cache_file = _cache_file(folder, extensions, cache_dir)
    if use_cache:
        index = _read_cache(cache_file)
        if index is not None:
            _log_found(folder, len(index.ends), begin, f'list from {cache_file}')
            return index
    try:
        images, folders, times = scan_folder(folder, extensions)
    except OSError as error:
        raise ConfigurationError(
            f'Cannot list the image folder {_describe(folder)}: '
            f'{error.strerror}; give a folder that holds images, at any depth.'
        ) from error
    if not images:
        raise ConfigurationError(
            f'No image in the folder {_describe(folder)}: looked at any depth '
            f'for files that end in {", ".join(extensions)}.')
    index = FolderIndex.from_paths(images)
    _log_found(folder, len(images), begin, 'listed')
    settled = max(times) / 1e9 < begin - SETTLED_AFTER_SECONDS
    if use_cache and settled and len(images) >= MIN_IMAGES_TO_CACHE:
        _write_cache(cache_file, index, folders, times)
    return index


def _describe(folder: str) -> str:
    """The folder, with the environment variable that it comes from, if any."""
    path = os.path.abspath(folder)
    for name, value in sorted(os.environ.items()):
        if not name.endswith('_ROOT') or not value:
            continue
        root = os.path.abspath(value)
        if path == root or path.startswith(root.rstrip(os.sep) + os.sep):
            return f'{folder} (from the environment variable {name}={value})'
    return folder


def _log_found(folder: str, number: int, begin: float, how: str) -> None:
    print_log(
        f'{number} images in {folder} ({how}, {time.time() - begin:.1f} s)',
        logger='current')


def _cache_file(folder, extensions, cache_dir) -> str:
    if cache_dir is None:
        user_cache = os.environ.get('XDG_CACHE_HOME') or os.path.join(
            os.path.expanduser('~'), '.cache')
        cache_dir = os.path.join(user_cache, 'mixedae_mm', 'folders')
    identity = '\0'.join([os.path.realpath(folder), *sorted(extensions)])
    digest = hashlib.blake2b(os.fsencode(identity), digest_size=12).hexdigest()
    return os.path.join(cache_dir, f'{digest}.npz')


def _read_cache(cache_file: str) -> Optional[FolderIndex]:
    """The cached index, or None if there is none or a folder has changed."""
    if not os.path.exists(cache_file):
        return None
    try:
        with np.load(cache_file, allow_pickle=False) as cache:
            if cache['version'] != CACHE_VERSION:
                return None
            index = FolderIndex(cache['names'], cache['ends'])
            times = cache['times']
            folders = cache['folders'].tobytes().split(b'\0')
        with ThreadPoolExecutor(NUM_THREADS) as pool:
            now = list(pool.map(lambda path: os.stat(path).st_mtime_ns, folders))
    except Exception as error:  # any damage or absence leads to a new listing
        print_log(f'Listing anew, the list {cache_file} is of no use: {error}',
                  logger='current')
        return None
    return index if np.array_equal(now, times) else None


def _write_cache(cache_file, index, folders, times) -> None:
    """Write a temporary file and rename it: nobody ever reads half a list."""
    try:
        directory = os.path.dirname(cache_file)
        os.makedirs(directory, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=directory, suffix='.npz')
        try:
            with os.fdopen(handle, 'wb') as file:
                np.savez(
                    file,
                    version=CACHE_VERSION,
                    names=index.names,
                    ends=index.ends,
                    times=np.array(times, dtype=np.int64),
                    folders=np.frombuffer(
                        b'\0'.join(map(os.fsencode, folders)), dtype=np.uint8))
            os.replace(temporary, cache_file)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        print_log(
            f'Cannot write the list of images to {cache_file} ({error}): the '
            'next run will list the folder again.',
            logger='current', level=logging.WARNING)
