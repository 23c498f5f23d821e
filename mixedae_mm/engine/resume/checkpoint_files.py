"""Checkpoint files that are whole or not there, and finding the newest."""
import os
import os.path as osp
import shutil
import zipfile
from typing import List, Optional

from mmengine.logging import print_log

from ...utils.errors import ConfigurationError
from ...utils.files import write_atomically as write_text  # noqa: F401

PARTIAL = '.partial'  # ends the name of a file that is being written


def commit(partial: str, final: str) -> None:
    """Give a completely written file, or directory, its name.

    Data reaches the disk before the name does, so that not even a power cut
    leaves the name with half a file.

    Args:
        partial (str): What was written, in the directory of ``final``.
        final (str): The name; a file that has it is replaced.

    Raises:
        OSError: If the disk refuses. ``final`` is then what it was before.
    """
    files = [partial]
    if osp.isdir(partial):  # sharded checkpoints
        files = [entry.path for entry in os.scandir(partial) if entry.is_file()]
    for path in files:
        _flush(path)
    if osp.isdir(final):
        shutil.rmtree(final)
    os.replace(partial, final)
    _flush(osp.dirname(osp.abspath(final)))


def remove(path: str) -> None:
    """Delete a file or directory if it is there."""
    if osp.isdir(path):
        shutil.rmtree(path)
    elif osp.exists(path):
        os.remove(path)


def find_resumable_checkpoint(work_dir: str) -> Optional[str]:
    """Find the newest complete checkpoint of a run.

    Args:
        work_dir (str): With the file ``last_checkpoint``.

    Returns:
        str, optional: The checkpoint which ``last_checkpoint`` names or, if
        that is damaged, the newest complete one beside it or in ``work_dir``
        (which may have been moved), with a warning. None if the run has not
        written any.

    Raises:
        ConfigurationError: If all that there are are damaged.
    """
    newest = _last_checkpoint(work_dir)
    if newest is None:
        return None
    candidates = [newest] + _other_checkpoints(newest, work_dir)
    for path in candidates:
        problem = damage(path)
        if problem is None:
            if path != newest:
                print_log(f'Resuming from {path} instead.', 'current', 30)
            return path
        print_log(f'The checkpoint {path} {problem}.', 'current', 30)
    raise ConfigurationError(
        f'No checkpoint of {work_dir} is complete '
        f'({", ".join(map(osp.basename, candidates))}); to start afresh, delete '
        f'{osp.join(work_dir, "last_checkpoint")} or choose another work_dir.')


def damage(path: str) -> Optional[str]:
    """Say what is wrong with a checkpoint, None if nothing is.

    Every byte is read and compared with the checksums in the file, at the
    disk's speed.

    Args:
        path (str): A file that ``torch.save`` wrote, or a directory of them.
    """
    if osp.isdir(path):
        names = os.listdir(path)
        problems = [damage(osp.join(path, name)) for name in names]
        return next(filter(None, problems), None if names else 'is empty')
    if not osp.isfile(path):
        return 'does not exist'
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        return f'is incomplete ({osp.getsize(path)} bytes; {error})'
    return broken and f'is damaged (checksum of {broken})'


def _last_checkpoint(work_dir: str) -> Optional[str]:
    try:
        with open(osp.join(work_dir, 'last_checkpoint')) as file:
            return file.read().strip() or None
    except FileNotFoundError:
        return None


def _other_checkpoints(newest: str, work_dir: str) -> List[str]:
    """More that can be resumed from, newest first."""
    paths = set()
    for folder in (osp.dirname(newest), work_dir):
        names = os.listdir(folder) if osp.isdir(folder) else []
        paths |= {
            osp.join(folder, name) for name in names
            # the best ones are saved without the optimizer
            if name.endswith('.pth') and not name.startswith('best_')
        }
    return sorted(paths - {newest}, key=osp.getmtime, reverse=True)


def _flush(path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
