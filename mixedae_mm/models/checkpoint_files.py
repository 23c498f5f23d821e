"""Find and open checkpoint files: local ones, addresses, other storage."""
import hashlib
import io
import os
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO
from urllib.parse import urlparse

import torch
from mmengine import fileio

from ..utils.errors import ConfigurationError
from ..utils.files import lock


def open_checkpoint(path: str) -> BinaryIO:
    """Open a checkpoint for reading.

    Args:
        path (str): As in :func:`.checkpoint_reading.read_checkpoint`.

    Raises:
        ConfigurationError: If there is no such file, or it cannot be fetched.
    """
    if not path:
        raise ConfigurationError(
            "init_cfg = dict(type='Pretrained') needs the path of a file as "
            'checkpoint; init_cfg = None starts from random weights.')
    local = os.path.expanduser(str(path))
    if local.startswith(('http://', 'https://')):
        local = _download(local)
    elif '://' in local:
        try:
            return io.BytesIO(fileio.get(local))
        except Exception as error:  # each storage backend has errors of its own
            raise ConfigurationError(
                f'The checkpoint {path} could not be read: {error}') from error
    try:
        return open(local, 'rb')
    except FileNotFoundError:
        raise ConfigurationError(f'The checkpoint {path} does not exist.') from None
    except IsADirectoryError:
        raise ConfigurationError(
            f'{path} is a folder; name the checkpoint file in it.') from None
    except OSError as error:
        raise ConfigurationError(
            f'The checkpoint {path} could not be read: {error}') from error


def _download(address: str) -> str:
    """Path of the local copy of an http(s) address, fetched if it is not there."""
    name = Path(urlparse(address).path)
    # Many addresses end in the same file name, on Hugging Face nearly all.
    mark = hashlib.sha256(address.encode()).hexdigest()[:16]
    local = Path(torch.hub.get_dir(), 'checkpoints', f'{name.stem}-{mark}{name.suffix}')
    if local.is_file():
        return str(local)
    local.parent.mkdir(parents=True, exist_ok=True)
    # One download per machine: the other processes wait for the lock. Where the
    # download fails, each of them tries and fails by itself; nobody is left
    # waiting, as in a barrier.
    with lock(f'{local}.lock'):
        if not local.is_file():
            try:
                torch.hub.download_url_to_file(address, str(local))
            except (OSError, HTTPException, ValueError) as error:
                raise ConfigurationError(
                    f'The checkpoint {address} could not be downloaded: {error}'
                ) from error
    return str(local)
