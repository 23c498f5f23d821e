"""Finding the checkpoint that a run goes on from."""
import os
import os.path as osp
import pickle
import zipfile
from collections import OrderedDict
from typing import Any, List, Optional

from .errors import ConfigurationError
from .messages import warn

COMPLETE = 'complete'  # a file in a sharded checkpoint that has all its shards


def checkpoint_folders(work_dir: str, out_dir: Optional[str] = None) -> List[str]:
    """Where a run's checkpoints are.

    ``out_dir`` is that of its ``CheckpointHook``, which adds the name of the run to it.
    """
    folders = [str(work_dir)]
    if out_dir and str(out_dir) != str(work_dir):
        name = osp.basename(str(work_dir).rstrip(osp.sep))
        folders.insert(0, osp.join(str(out_dir), name))
    return folders


def out_dir_of(cfg) -> Optional[str]:
    """The ``out_dir`` of a config's checkpoint hook."""
    return ((cfg.get('default_hooks') or {}).get('checkpoint') or {}).get('out_dir')


def is_own_checkpoint(path: str, work_dir: str,
                      out_dir: Optional[str] = None) -> bool:
    """Whether a run wrote a file: it may hold more than tensors, and is trusted."""
    real = osp.realpath(osp.expanduser(path))
    return path == _last_checkpoint(work_dir) or any(
        real.startswith(osp.join(osp.realpath(folder), ''))
        for folder in checkpoint_folders(work_dir, out_dir))


def find_resumable_checkpoint(work_dir: str,
                              out_dir: Optional[str] = None) -> Optional[str]:
    """Find the newest whole checkpoint of a run.

    It is the one that ``last_checkpoint`` names, if there is not a newer one that has
    come further. If that is damaged or gone, or nothing is named, it is the newest
    whole one in the run's folders, with a warning; None if there are none.

    Raises:
        ConfigurationError: If all that there are are damaged.
    """
    named = _last_checkpoint(work_dir)
    candidates = _candidates(checkpoint_folders(work_dir, out_dir), named)
    for path in candidates:
        problem = damage(path)
        if problem is None:
            if not named or osp.realpath(path) != osp.realpath(named):
                instead = f' instead of {named}' if named else ''
                warn(f'Resuming from {path}{instead}.')
            return path
        warn(f'The checkpoint {path} {problem}.')
    if not candidates:
        return None
    raise ConfigurationError(
        f'No checkpoint of {work_dir} is complete '
        f'({", ".join(map(osp.basename, candidates))}); to start afresh, choose '
        'another work_dir, or delete them and '
        f'{osp.join(work_dir, "last_checkpoint")}.')


def has_checkpoints(work_dir: str, out_dir: Optional[str] = None) -> bool:
    """Whether a run has left something to resume from, be it damaged."""
    return bool(_candidates(
        checkpoint_folders(work_dir, out_dir), _last_checkpoint(work_dir)))


def damage(path: str) -> Optional[str]:
    """Say what is wrong with a checkpoint (a file, or a folder of them), or None.

    Every byte is read and compared with the checksums in the file.
    """
    if osp.isdir(path):
        if not osp.exists(osp.join(path, COMPLETE)):
            return (f'is a folder without the file "{COMPLETE}", which is written '
                    'when all shards are; if they are, name it with --resume')
        problems = (damage(osp.join(path, name)) for name in os.listdir(path)
                    if name != COMPLETE)
        return next(filter(None, problems), None)
    if not osp.isfile(path):
        return 'does not exist'
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        return f'is incomplete ({osp.getsize(path)} bytes; {error})'
    return broken and f'is damaged (checksum of {broken})'


def progress(path: str) -> Optional[int]:
    """Read how many iterations were done, without loading or running anything.

    None if this is not a readable checkpoint of a runner.
    """
    if osp.isdir(path):
        path = osp.join(path, 'rank0.pth')
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist()
                        if name.endswith('/data.pkl'))
            with archive.open(name) as file:
                checkpoint = _Outline(file).load()
        return int(checkpoint['meta']['iter']) if 'message_hub' in checkpoint else None
    except Exception:  # whatever a file of another kind leads to
        return None


def _last_checkpoint(work_dir: str) -> Optional[str]:
    try:
        with open(osp.join(work_dir, 'last_checkpoint')) as file:
            return file.read().strip() or None
    except FileNotFoundError:
        return None


def _candidates(folders: List[str], named: Optional[str]) -> List[str]:
    """What may be resumed from, best first; ``last_checkpoint`` holds ``named``."""
    paths = [
        osp.join(folder, name) for folder in folders if osp.isdir(folder)
        for name in sorted(os.listdir(folder))
        # The best ones lack the optimizer, and hidden ones are half-written.
        if name.endswith('.pth') and not name.startswith(('best_', '.'))
    ]
    done = {path: progress(path) for path in paths}
    # Not a runner's checkpoint, but weights that somebody has put here.
    paths = [path for path in paths if done[path] is not None or damage(path)]
    for path in paths:
        if named and osp.basename(path) == osp.basename(named):
            named = path  # also where the work folder was moved or copied
            break
    if named is None or not osp.exists(named):
        paths.sort(key=lambda path: (done[path] or 0, osp.getmtime(path)), reverse=True)
        return ([] if named is None else [named]) + paths
    others = sorted((path for path in paths if path != named),
                    key=lambda path: (osp.getmtime(path), done[path] or 0),
                    reverse=True)  # newest first
    reached, since = progress(named), osp.getmtime(named)
    # Files of an earlier run in this folder may have come further, but are older.
    ahead = [path for path in others if reached is not None
             and osp.getmtime(path) >= since and (done[path] or 0) > reached]
    ahead.sort(key=lambda path: done[path] or 0, reverse=True)
    behind = [path for path in others if path not in ahead]
    return [*ahead, named, *behind]


class StandIn:
    """Take whatever unpickling does to an object; keep nothing and run nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def ignore(self, *args, **kwargs) -> None:
        pass

    __init__ = __setstate__ = __setitem__ = append = extend = add = ignore


class _Outline(pickle.Unpickler):
    """Read containers, numbers and names; all else becomes a stand-in."""

    def find_class(self, module: str, name: str) -> Any:
        return OrderedDict if name == 'OrderedDict' else StandIn

    def persistent_load(self, key: Any) -> None:
        return None  # a tensor's data
