"""List the images below a folder; all of the package finds them in this way."""
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import (Iterable, Iterator, List, NamedTuple, Optional, Sequence, Set,
                    Tuple, Union)

import numpy as np
from mmengine.logging import print_log

from ..utils.errors import ConfigurationError
from ..utils.messages import warn
from .decode import EXTENSIONS
from .other_files import SYSTEM_FILES, describe_files
from .reading import try_again

# Listing waits for the disk, above all if it is in a network.
NUM_THREADS = 16
DIGITS = re.compile('([0-9]+)')


class FolderIndex(NamedTuple):
    """Paths relative to a folder, in natural order.

    Two arrays, about as many bytes as the paths have letters, which all worker
    processes share; a list of strings would be copied by each of them.
    """
    names: np.ndarray  # uint8, the encoded paths, one after the other
    ends: np.ndarray  # int64, (number of images, ): where each path ends

    @classmethod
    def from_paths(cls, paths: Iterable[bytes]) -> 'FolderIndex':
        paths = list(paths)
        names = np.frombuffer(b''.join(paths), dtype=np.uint8)
        ends = np.cumsum([len(path) for path in paths], dtype=np.int64)
        return cls(names, ends)

    def path(self, index: int) -> str:
        """The path of one image; ``index`` is in ``[0, number of images)``."""
        begin = self.ends[index - 1] if index > 0 else 0
        return os.fsdecode(self.names[begin:self.ends[index]].tobytes())

    def paths(self) -> Iterator[str]:
        """All paths."""
        return map(self.path, range(len(self.ends)))


def index_folder(folder: str,
                 extensions: Sequence[str] = EXTENSIONS) -> FolderIndex:
    """List the images below a folder at any depth, in this process.

    Links to folders are followed; names that begin with a dot are left out. So are
    files whose names are not those of images, which the log names and counts.

    Raises:
        ConfigurationError: If the folder is missing, cannot be listed, or does
            not have an image.
    """
    begin = time.time()
    try:
        images, others = scan_folder(folder, extensions)
    except OSError as error:
        raise ConfigurationError(
            f'Cannot list the image folder {_describe(folder)}: '
            f'{error.strerror} ({error.filename}); give a folder that holds images, '
            'at any depth.') from error
    left_out = describe_files(others, extensions)
    if not images:
        found = f'; it has {left_out}' if left_out else ''
        raise ConfigurationError(
            f'No image in the folder {_describe(folder)}: looked at any depth '
            f'for files that end in {", ".join(extensions)}{found}.')
    print_log(f'{len(images)} images in {folder} (listed, '
              f'{time.time() - begin:.1f} s)', logger='current')
    if left_out:
        warn(f'Left out of {folder}, because their names are not those of images: '
             f'{left_out}.')
    return FolderIndex.from_paths(map(os.fsencode, images))


def image_files(path: Union[str, os.PathLike],
                extensions: Sequence[str] = EXTENSIONS) -> Iterator[Tuple[Path, str]]:
    """An image file, or all below a folder, each with its name below that.

    Raises:
        ConfigurationError: If there is neither, or no image in the folder.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        for name in index_folder(str(path), extensions).paths():
            yield path / name, name
    elif path.is_file():
        yield path, path.name
    else:
        raise ConfigurationError(f'{path} is neither an image file nor a folder.')


def natural_key(name: str) -> tuple:
    """Sort key under which ``img2`` comes before ``img10``."""
    parts: list = DIGITS.split(name)
    parts[1::2] = map(int, parts[1::2])
    return parts, name


def scan_folder(folder: str,
                extensions: Sequence[str]) -> Tuple[List[str], List[str]]:
    """Relative paths of all images, in natural order, and of all other files.

    Raises:
        OSError: If a folder cannot be listed. One that is not allowed to be read, or
            is removed meanwhile, is left out with a warning; but not ``folder`` itself.
    """
    list_one = partial(_list_folder, folder, tuple(extensions))
    listed: List[_Listing] = []
    seen: Set[Tuple[int, int]] = set()
    # Folder by folder in breadth, those of one depth in parallel.
    level = ['']
    with ThreadPoolExecutor(NUM_THREADS) as pool:
        while level:
            next_level: List[str] = []
            for listing in filter(None, pool.map(list_one, level)):
                # A folder that links lead to twice, or in a circle, counts once.
                if listing.identity not in seen:
                    seen.add(listing.identity)
                    listed.append(listing)
                    next_level += listing.subfolders
            level = next_level
    listed.sort(key=lambda listing: natural_key(listing.relative))
    images = [path for listing in listed for path in listing.images]
    return images, [path for listing in listed for path in listing.others]


class _Listing(NamedTuple):
    relative: str
    identity: Tuple[int, int]  # device and inode
    images: List[str]
    others: List[str]
    subfolders: List[str]


def _list_folder(folder: str, extensions: Tuple[str, ...],
                 relative: str) -> Optional[_Listing]:
    """What lies in ``folder/relative``, or None if it must be left out."""
    path = os.path.join(folder, relative)
    try:
        return try_again(partial(_list_entries, path, extensions, relative))
    except (PermissionError, FileNotFoundError) as error:
        if not relative:
            raise
        warn(f'Leaving out the folder {path}: {error.strerror}.')
        return None


def _list_entries(path: str, extensions: Tuple[str, ...], relative: str) -> _Listing:
    status = os.stat(path)
    prefix = os.path.join(relative, '')
    images: List[str] = []
    others: List[str] = []
    subfolders: List[str] = []
    with os.scandir(path) as entries:
        for entry in entries:
            name = entry.name
            if name.startswith('.') or name.lower() in SYSTEM_FILES:
                continue
            # By name first: it spares asking the disk about links.
            if name.lower().endswith(extensions) and entry.is_file():
                images.append(name)
            elif entry.is_dir():
                subfolders.append(prefix + name)
            else:
                others.append(prefix + name)
    images = [prefix + name for name in sorted(images, key=natural_key)]
    return _Listing(relative, (status.st_dev, status.st_ino), images, others,
                    sorted(subfolders))


def _describe(folder: str) -> str:
    """The folder, with the environment variable that it comes from, if any."""
    path = Path(os.path.abspath(folder))
    for name, value in sorted(os.environ.items()):
        if name.endswith('_ROOT') and value:
            root = Path(os.path.abspath(value))
            if root in (path, *path.parents):
                return f'{folder} (from the environment variable {name}={value})'
    return folder
