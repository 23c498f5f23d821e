"""Recognise weights and files by what they hold, not by their names.

A file or folder is read once per process: a command does not change its own inputs.
"""
import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any, Union

import torch

from mixedae_mm.models.checkpoint_reading import read_weights

# Of folders with more bytes every k-th file is read, so that about as many are.
READ_BYTES = 2**30


def fingerprint(values: Any) -> str:
    """Hash of plain values, as JSON has them."""
    return hashlib.sha256(
        json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


@lru_cache(maxsize=None)
def path_fingerprint(path: Union[str, Path]) -> str:
    """Hash of a file, or of all files below a folder.

    Names and sizes of all files count. So does their content; in folders of
    more than :data:`READ_BYTES` that of some files, evenly spread.
    """
    path = Path(path)
    files = [path] if path.is_file() else sorted(
        Path(parent, name) for parent, _, names in os.walk(path) for name in names)
    sizes = [file.stat().st_size for file in files]
    digest, stride = hashlib.sha256(), 1 + sum(sizes) // READ_BYTES
    for number, (file, size) in enumerate(zip(files, sizes)):
        digest.update(f'{os.path.relpath(file, path)}\0{size}\0'.encode(
            'utf8', 'surrogateescape'))
        if number % stride == 0:
            with open(file, 'rb') as content:
                while block := content.read(2**20):
                    digest.update(block)
    return digest.hexdigest()[:16]


@lru_cache(maxsize=None)
def weights_fingerprint(checkpoint: Union[str, Path]) -> str:
    """Hash of the tensors in a checkpoint, wherever it lies.

    Raises:
        ConfigurationError: If it is not a readable checkpoint.
    """
    if os.path.isdir(checkpoint):
        return path_fingerprint(checkpoint)
    digest = hashlib.sha256()
    for name, tensor in sorted(read_weights(str(checkpoint)).items()):
        digest.update(f'{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0'.encode())
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
