"""Checkpoint files, wherever they are, read as data: never as code."""
import ast
import hashlib
import io
import json
import os
import pickle
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, BinaryIO, Dict
from urllib.parse import urlparse

import torch
from mmengine import fileio

from ..utils.errors import ConfigurationError
from ..utils.files import delete, lock
from ..utils.optional import require
from .checkpoint_names import WRAPPERS
from .checkpoint_pickle import unpickle

# Where training scripts keep the weights; the first that is there counts. In this
# order: mmengine and Lightning; Meta and timm; others; DINO, whose teacher is the
# result; DeepSpeed.
WEIGHT_KEYS = ('state_dict', 'model', 'model_state_dict', 'teacher', 'module')
# In the metadata of safetensors: rows and columns of patches, as '14x14'.
PATCH_GRID = 'patch_grid'
ADDRESS = ('http://', 'https://')


def read_checkpoint(path: str) -> dict:
    """Read a checkpoint onto the CPU without running anything it contains.

    Args:
        path (str): A file of ``torch.save`` or of safetensors, told apart by
            their content; a local path, an http(s) address (kept in the cache
            of ``torch.hub`` by the full address), or what else mmengine's file
            backends read. No other process is waited for, except one of this
            machine that is downloading the same address.

    Returns:
        dict: What was saved. What is neither a tensor nor plain data (see
        ``SKIPPED_TYPES``) is an empty stand-in.

    Raises:
        ConfigurationError: If the file does not exist or cannot be fetched, is
            truncated or not a checkpoint, or would execute code when unpickled.
    """
    with _open(path) as file:
        try:
            return _read(path, file)
        except _UnreadableError as error:
            if not path.startswith(ADDRESS):
                raise
            delete(file.name)  # else it would be used again and again
            raise ConfigurationError(
                f'{error} What was downloaded of it, {file.name}, was removed; the '
                'next try downloads it again.') from error


def read_weights(path: str) -> Dict[str, torch.Tensor]:
    """The weights in a file (:func:`read_checkpoint`), by name (:func:`weights_of`)."""
    return weights_of(read_checkpoint(path), path)


def weights_of(checkpoint: dict, path: str) -> Dict[str, torch.Tensor]:
    """The weights in what was read from a file, by names without training wrappers'.

    Raises:
        ConfigurationError: If there are no weights, or some are not finite.
    """
    weights = {
        str(name): value.detach()
        for name, value in state_dict_of(checkpoint).items()
        if isinstance(value, torch.Tensor)
    }
    if not weights:
        raise ConfigurationError(f'{path} holds no weights.')
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in weights):
            weights = {name[len(wrapper):]: v for name, v in weights.items()}
    broken = [name for name, value in weights.items()
              if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise ConfigurationError(
            f'{path} holds NaN or infinite values in {len(broken)} of '
            f'{len(weights)} tensors ({broken[0]} first): its run diverged.')
    return weights


def state_dict_of(checkpoint: dict) -> dict:
    """What holds the weights: a part of what was saved, or all of it."""
    return next((checkpoint[key] for key in WEIGHT_KEYS
                 if isinstance(checkpoint.get(key), dict)), checkpoint)


def saved_config(checkpoint: dict) -> dict:
    """The config in a checkpoint of mmengine, empty if there is none."""
    meta = checkpoint.get('meta')
    config = meta.get('cfg') if isinstance(meta, dict) else None
    if isinstance(config, str):
        config = literal_config(config)
    return config if isinstance(config, dict) else {}


def literal_config(text: str) -> dict:
    """Read the text of a config, as ``Config.pretty_text``, without executing it.

    A value that is neither a literal nor ``dict(...)`` becomes the text that it is
    written with. Empty if the text is not Python, or nested too deeply.
    """
    try:
        return {
            node.targets[0].id: _literal(node.value)
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
        }
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}


def _literal(node: ast.AST) -> Any:
    try:
        if isinstance(node, (ast.List, ast.Tuple)):
            kind = list if isinstance(node, ast.List) else tuple
            return kind(map(_literal, node.elts))
        if isinstance(node, ast.Dict):
            return {
                _literal(key): _literal(value)
                for key, value in zip(node.keys, node.values) if key is not None
            }
        if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
                and node.func.id == 'dict'):
            return {word.arg: _literal(word.value) for word in node.keywords}
        return ast.literal_eval(node)
    except (ValueError, TypeError):  # TypeError: a list as a key
        return ast.unparse(node)


def _open(path: str) -> BinaryIO:
    if not path:
        raise ConfigurationError(
            "init_cfg = dict(type='Pretrained') needs the path of a file as "
            'checkpoint; init_cfg = None starts from random weights.')
    local = os.path.expanduser(str(path))
    try:
        if local.startswith(ADDRESS):
            local = _download(local)
        elif '://' in local:
            return io.BytesIO(fileio.get(local))
        return open(local, 'rb')
    except Exception as error:  # each storage backend has errors of its own
        reason = f'could not be read: {error}'
        if isinstance(error, FileNotFoundError):
            reason = 'does not exist'
        elif isinstance(error, IsADirectoryError):
            reason = 'is a folder; name the checkpoint file in it'
        raise ConfigurationError(f'The checkpoint {path} {reason}.') from error


def _download(address: str) -> str:
    """Path of the local copy of an http(s) address, fetched if it is not there."""
    name = Path(urlparse(address).path)
    # Many addresses end in the same file name, on Hugging Face nearly all.
    mark = hashlib.sha256(address.encode()).hexdigest()[:16]
    local = Path(torch.hub.get_dir(), 'checkpoints', f'{name.stem}-{mark}{name.suffix}')
    if not local.is_file():
        local.parent.mkdir(parents=True, exist_ok=True)
        # One download per machine: the other processes wait for the lock. Where the
        # download fails, each of them tries and fails by itself; nobody is left
        # waiting, as in a barrier.
        with lock(f'{local}.lock'):
            if not local.is_file():
                torch.hub.download_url_to_file(address, str(local))
    return str(local)


class _UnreadableError(ConfigurationError):
    """A file that is truncated, or another kind of file."""


def _read(path: str, file: BinaryIO) -> dict:
    start = file.read(9)  # safetensors: a length of 8 bytes, then a JSON object
    file.seek(0)
    if start[4:] == bytes(4) + b'{':
        return _read_safetensors(path, file.read())
    try:
        checkpoint = unpickle(file)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError,
            TypeError, KeyError, OSError) as error:
        code = re.search(r'GLOBAL (\S+)', str(error))
        if code is None:
            raise _UnreadableError(
                f'{path} is not a readable checkpoint; it may be truncated, or '
                'another kind of file.') from error
        raise ConfigurationError(
            f'{path} was not loaded because that would run code: it names '
            f'{code[1]}. If you trust the file, save its weights alone and use '
            f'those: from {__name__} import state_dict_of; torch.save(state_dict_of('
            f"torch.load('{path}', weights_only=False)), 'weights.pth').") from None
    if not isinstance(checkpoint, dict):
        raise ConfigurationError(
            f'{path} holds a {type(checkpoint).__name__}, but a checkpoint is '
            'a dict of weights or has one under "state_dict".')
    return checkpoint


def _read_safetensors(path: str, content: bytes) -> dict:
    library = require('safetensors.torch', 'safetensors', f'Reading {path}')
    try:
        weights = OrderedDict(library.load(content))
    except Exception as error:  # its own error type, which it does not export
        raise _UnreadableError(
            f'{path} is not a readable safetensors file; it may be truncated.'
        ) from error
    header = json.loads(content[8:8 + int.from_bytes(content[:8], 'little')])
    noted = header.get('__metadata__', {}).get(PATCH_GRID, '')
    if re.fullmatch(r'\d+x\d+', noted):  # as LoadedWhole notes it
        grid = tuple(map(int, noted.split('x')))
        weights._metadata = {'': dict(grid=grid)}  # type: ignore[attr-defined]
    return weights
