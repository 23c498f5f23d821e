"""Files that are whole or not there, and a lock between processes."""
import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Optional, Sequence, Union

from .errors import ConfigurationError

PARTIAL = '.partial-'  # in the name of what is being written


@contextmanager
def atomically(destination: Union[str, Path]) -> Iterator[Path]:
    """Write a file, or a folder, that takes its place as a whole.

    Data reaches the disk before the name does, so that not even a power cut leaves the
    name with half a file. What is there is replaced, and stays if the block fails.

    Yields where to write: hidden, in the same folder, with the same ending; it does not
    exist yet. If the disk refuses, that is an OSError.
    """
    destination = Path(destination)
    temporary = destination.with_name(
        f'.{destination.stem}{PARTIAL}{os.getpid()}{destination.suffix}')
    outdated = destination.with_name(f'.{destination.name}.old-{os.getpid()}')
    try:
        yield temporary
        for path in (temporary, *temporary.rglob('*')):
            _flush(path)
        if destination.exists() and (temporary.is_dir() or destination.is_dir()):
            # A folder cannot be replaced in one step: the old one waits.
            os.rename(destination, outdated)
        os.replace(temporary, destination)
        _flush(destination.parent)
    finally:
        delete(temporary)
        if outdated.exists() and not destination.exists():
            os.rename(outdated, destination)
        delete(outdated)


@contextmanager
def whole(destination: Path) -> Iterator[Path]:
    """:func:`atomically`, with an error of one sentence."""
    try:
        with atomically(destination) as temporary:
            yield temporary
    except OSError as error:
        raise ConfigurationError(
            f'{destination} was not written: {error.strerror or error}.') from error


def write_json(path: Union[str, Path], content: Any) -> None:
    """Write JSON for people to read, whole or not at all."""
    write_atomically(path, json.dumps(content, indent=1) + '\n')


def write_atomically(path: Union[str, Path], content: Union[str, bytes]) -> None:
    """Write bytes, or text as UTF-8, :func:`atomically`."""
    with atomically(path) as temporary:
        temporary.write_bytes(
            content.encode() if isinstance(content, str) else content)


def check_file(path: Union[str, Path], overwrite: bool,
               suffixes: Sequence[str] = ()) -> Path:
    """Refuse, before any work, a place that a file cannot be written to.

    ``~`` is the home folder, ``suffixes`` how the name may end: any way by default.

    Raises:
        ConfigurationError: One sentence that names the path.
    """
    destination = Path(path).expanduser()
    if suffixes and destination.suffix.lower() not in suffixes:
        raise ConfigurationError(f'{path} must end in one of {", ".join(suffixes)}.')
    if destination.is_dir():
        raise ConfigurationError(f'{path} must be a file, but is a folder.')
    return check_place(destination, overwrite)


def check_place(destination: Path, overwrite: bool) -> Path:
    """As :func:`check_file`, for a file or a folder."""
    folder = destination.parent
    if destination.exists() and not overwrite:
        raise ConfigurationError(
            f'{destination} exists already; choose another name, or replace it with '
            '--overwrite.')
    if not folder.is_dir():
        raise ConfigurationError(
            f'{destination} cannot be written: the folder {folder} does not exist.')
    if not os.access(folder, os.W_OK):
        raise ConfigurationError(
            f'{destination} cannot be written: no permission for the folder {folder}.')
    return destination


def delete(path: Union[str, Path]) -> None:
    """Delete a file or a folder if it is there."""
    path = Path(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def lock(path: Union[str, Path], refusal: Optional[str] = None) -> Iterator[int]:
    """Hold a lock file, which no second process gets at the same time.

    The lock ends with the process, however that ends. The file is made where it is
    missing, keeps its content, and stays.

    If another process holds it, ``refusal`` is the :class:`ConfigurationError`; None
    waits instead. Processes that inherit the file descriptor it yields hold it too.
    """
    with open(path, 'a') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if refusal else 0))
        except BlockingIOError:
            raise ConfigurationError(refusal) from None
        yield file.fileno()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
