"""Recognise weights and files by what they hold, not by their names."""
import hashlib
import json
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, List, Tuple, Union

import torch

from mixedae_mm.models.checkpoint_reading import read_weights

# Of folders with more bytes every k-th file is read, so that about as many are.
READ_BYTES = 2**30
# A file changed less than this ago may change again under the same time stamp.
RECENT_NANOSECONDS = 2 * 10**9

Entry = Tuple[str, int, int]  # path, bytes, time of change


def fingerprint(values: Any) -> str:
    """Hash of plain values, as JSON has them."""
    return hashlib.sha256(
        json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def path_fingerprint(path: Union[str, Path]) -> str:
    """Hash of a file, or of all files below a folder.

    Names and sizes of all files count. So does their content; in folders of
    more than :data:`READ_BYTES` that of some files, evenly spread.
    """
    path = Path(path)
    files = [path] if path.is_file() else [
        Path(parent, name) for parent, _, names in os.walk(path) for name in names]
    return _cached(_files_digest, str(path), sorted(files))


def weights_fingerprint(checkpoint: Union[str, Path]) -> str:
    """Hash of the tensors in a checkpoint, wherever it lies.

    Raises:
        ConfigurationError: If it is not a readable checkpoint.
    """
    if os.path.isdir(checkpoint):
        return path_fingerprint(checkpoint)
    files = [Path(checkpoint)] if os.path.isfile(checkpoint) else []
    return _cached(_weights_digest, str(checkpoint), files)


def _cached(digest, path: str, files: List[Path]) -> str:
    """What was computed before, unless a file may have changed unnoticed."""
    entries = []
    for file in files:
        status = file.stat()
        entries.append((str(file), status.st_size, status.st_mtime_ns))
    newest = max((changed for *_, changed in entries), default=0)
    is_recent = time.time_ns() - newest < RECENT_NANOSECONDS
    return (digest.__wrapped__ if is_recent else digest)(path, tuple(entries))


@lru_cache(maxsize=64)
def _files_digest(root: str, files: Tuple[Entry, ...]) -> str:
    digest = hashlib.sha256()
    stride = 1 + sum(size for _, size, _ in files) // READ_BYTES
    for number, (path, size, _) in enumerate(files):
        digest.update(f'{os.path.relpath(path, root)}\0{size}\0'.encode(
            'utf8', 'surrogateescape'))
        if number % stride == 0:
            with open(path, 'rb') as file:
                while block := file.read(2**20):
                    digest.update(block)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=64)
def _weights_digest(checkpoint: str, files: Tuple[Entry, ...]) -> str:
    digest = hashlib.sha256()
    for name, tensor in sorted(read_weights(checkpoint).items()):
        digest.update(f'{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0'.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
