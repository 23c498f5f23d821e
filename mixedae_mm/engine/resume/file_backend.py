"""mmengine's file backend for checkpoints that are never half-written."""
import os.path as osp
from typing import List

from mmengine.fileio import LocalBackend, register_backend
from mmengine.utils import mkdir_or_exist

from ...utils.files import delete, write_atomically
from ...utils.messages import warn


class AtomicBackend(LocalBackend):
    """Local files, each written whole or not at all."""

    def put(self, obj: bytes, filepath: str) -> None:
        """Write a file, in a folder that is made if needed, or leave it as it was."""
        mkdir_or_exist(osp.dirname(filepath))
        write_atomically(filepath, obj)

    def put_text(self, obj: str, filepath: str, encoding: str = 'utf-8') -> None:
        """Write a text file, as :meth:`put`."""
        self.put(obj.encode(encoding), filepath)

    @classmethod
    def register(cls) -> None:
        """Make it mmengine's backend for local paths, which ``Runner`` saves with."""
        register_backend('local', cls, prefixes='', force=True)


class DeletesLater(AtomicBackend):
    """Remembers what to delete: mmengine deletes old checkpoints before it writes."""

    def __init__(self) -> None:
        self.outdated: List[str] = []  # paths

    def remove(self, filepath: str) -> None:
        """Remember a file or a folder."""
        self.outdated.append(str(filepath))

    rmtree = remove

    def delete_outdated(self) -> None:
        """Delete what was remembered; a failure is only a warning."""
        for path in self.outdated:
            try:
                delete(path)
            except OSError as error:
                warn(f'Could not delete {path}: {error}')
        self.outdated = []
