"""Saving as a whole: helpers of :class:`SafeCheckpointHook`."""
import os.path as osp
from contextlib import contextmanager
from typing import Any, Iterator

from mmengine.dist import all_gather_object, is_main_process
from mmengine.logging import print_log

from .checkpoint_files import PARTIAL, commit, remove


class NotWritten(Exception):
    """The disk refused a checkpoint. Raised on all ranks alike."""


class AtomicSaves:
    """A runner whose checkpoints appear whole or not at all.

    All else is the runner's own, so that ``CheckpointHook`` takes it for one.

    Args:
        runner (Runner): The runner.
        is_local (bool): Whether it saves to a file system. Object stores
            write whole objects anyway, and cannot rename.
    """

    def __init__(self, runner, is_local: bool) -> None:
        self._runner, self._is_local = runner, is_local

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def save_checkpoint(self, out_dir: str, filename: str, *args,
                        **kwargs) -> None:
        """Like the runner's, but atomic; call it on all ranks.

        Raises:
            NotWritten: If the disk refused. There is no new file then.
        """
        self._runner.call_hook('before_save_on_all_ranks')
        final = osp.join(out_dir, filename)
        partial = final + PARTIAL if self._is_local else final
        with raised_on_all_ranks(partial):  # each may write a shard
            self._runner.save_checkpoint(out_dir, osp.basename(partial), *args,
                                         **kwargs)
        if self._is_local:
            with raised_on_all_ranks(partial):
                if is_main_process():
                    commit(partial, final)


class RemoveLater:
    """A file backend that keeps a list of what it is told to delete."""

    def __init__(self, backend) -> None:
        self.backend, self.paths = backend, []  # type: Any, list[str]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Remember a file or directory."""
        self.paths.append(path)

    rmtree = remove

    def remove_now(self) -> None:
        """Delete what was remembered; a failure is only a warning."""
        for path in self.paths:
            try:
                if self.backend.isdir(path):
                    self.backend.rmtree(path)
                elif self.backend.isfile(path):
                    self.backend.remove(path)
            except OSError as error:
                print_log(f'Could not delete {path}: {error}', 'current', 30)


@contextmanager
def raised_on_all_ranks(leftover: str) -> Iterator[None]:
    """Turn any rank's OSError into :class:`NotWritten` on every rank.

    Args:
        leftover (str): To delete then; it may be what fills the disk.
    """
    error = None
    try:
        yield
    except OSError as caught:
        error = str(caught)
    errors = [text for text in all_gather_object(error) if text]
    if errors:
        if is_main_process():
            remove(leftover)
        raise NotWritten(errors[0])
