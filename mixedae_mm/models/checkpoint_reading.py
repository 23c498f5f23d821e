"""Checkpoint files read as data: tensors and containers, never code."""
import ast
import hashlib
import io
import os
import pickle
import re
from http.client import HTTPException
from pathlib import Path
from typing import BinaryIO, Dict, Optional
from urllib.parse import urlparse

import torch
from mmengine import fileio

from ..utils.errors import ConfigurationError
from ..utils.files import lock
from .checkpoint_names import WRAPPERS

# What training scripts save beside the weights: mmengine's log buffers, NumPy
# numbers, the parsed command line of Meta's. Nobody needs them to load weights,
# so each is read as an empty stand-in, and the function or class of that name
# (``getattr``!) is never touched.
SKIPPED_TYPES = (
    'mmengine.logging.history_buffer.HistoryBuffer',
    'argparse.Namespace',
    'builtins.getattr',
    'builtins.slice',
    '_codecs.encode',
    'numpy.ndarray',
    'numpy.dtype',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
)
# Where training scripts keep the weights, the first that is there counts:
# mmengine and Lightning; Meta and timm; DINO, whose teacher is the result; DeepSpeed.
WEIGHT_KEYS = ('state_dict', 'model', 'model_state_dict', 'teacher', 'module')


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
        return _read(path, file)


def _read(path: str, file) -> dict:
    if _is_safetensors(file):
        return _read_safetensors(path, file)
    try:
        checkpoint = _unpickle(file)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError,
            TypeError, KeyError, OSError) as error:
        code = re.search(r'GLOBAL (\S+)', str(error))
        if code is None:
            raise ConfigurationError(
                f'{path} is no readable checkpoint; it may be truncated, or '
                'another kind of file.') from error
        raise ConfigurationError(
            f'{path} was not loaded because that would run code: it names '
            f'{code[1]}. If you trust the file, save its weights alone and '
            f"use those: torch.save(torch.load('{path}', weights_only=False)"
            f"{_weights_index(file)}, 'weights.pth').") from None
    if not isinstance(checkpoint, dict):
        raise ConfigurationError(
            f'{path} holds a {type(checkpoint).__name__}, but a checkpoint is '
            'a dict of weights or has one under "state_dict".')
    return checkpoint


def read_weights(path: str) -> Dict[str, torch.Tensor]:
    """The weights in a checkpoint, by name; see :func:`weights_of`.

    Args:
        path (str): As in :func:`read_checkpoint`.
    """
    return weights_of(read_checkpoint(path), path)


def weights_of(checkpoint: dict, path: str) -> Dict[str, torch.Tensor]:
    """The weights in what was read from a file.

    Args:
        checkpoint (dict): The weights themselves, or a dict that has them
            under one of ``WEIGHT_KEYS``.
        path (str): Of the file, for messages.

    Returns:
        dict[str, Tensor]: Names without what training wrappers put first.

    Raises:
        ConfigurationError: If there are no weights, or some are not finite
            numbers.
    """
    key = _weights_key(checkpoint)
    weights = {
        str(name): value.detach()
        for name, value in (checkpoint if key is None else checkpoint[key]).items()
        if isinstance(value, torch.Tensor)
    }
    if not weights:
        raise ConfigurationError(f'{path} holds no weights.')
    for wrapper in WRAPPERS:
        if all(name.startswith(wrapper) for name in weights):
            weights = {name[len(wrapper):]: v for name, v in weights.items()}
    broken = [
        name for name, value in weights.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise ConfigurationError(
            f'{path} holds NaN or infinite values in {len(broken)} of '
            f'{len(weights)} tensors ({broken[0]} first): its run diverged.')
    return weights


def literal_config(text: str) -> dict:
    """Read the text of a config without executing it.

    Args:
        text (str): As ``Config.pretty_text`` writes it: assignments of
            literals and of ``dict(...)``.

    Returns:
        dict: The assigned values. What is no literal becomes the text it is
        written with. Empty if the text is no Python.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return {}
    return {
        node.targets[0].id: _literal(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
    }


def _literal(node: ast.AST):
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_literal(element) for element in node.elts]
    if isinstance(node, ast.Dict):
        return {
            _literal(key): _literal(value)
            for key, value in zip(node.keys, node.values) if key is not None
        }
    if (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            and node.func.id == 'dict'):
        return {word.arg: _literal(word.value) for word in node.keywords}
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def _weights_key(checkpoint: dict) -> Optional[str]:
    """Where the weights are in a file; None if the file is the weights."""
    return next((key for key in WEIGHT_KEYS
                 if isinstance(checkpoint.get(key), dict)), None)


class _Skipped:
    """Stands for an object that is not needed; takes and keeps nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __setstate__(self, state) -> None:
        pass


class _DataOnlyPickle:
    """What ``torch.load`` takes for ``pickle`` where it cannot be told names.

    Before PyTorch 2.6 ``weights_only=True`` knows no exceptions and refuses
    every checkpoint of mmengine. The same rule by the documented way to
    restrict what a pickle may name.
    """
    # Those of later PyTorch; the Counter is a schedule's milestones.
    ALLOWED = ('collections.OrderedDict', 'collections.Counter', 'builtins.set',
               'builtins.complex', 'torch._utils._rebuild_tensor_v2',
               'torch._utils._rebuild_parameter', 'torch.Size', 'torch.device',
               *(str(value) for value in vars(torch).values()
                 if isinstance(value, torch.dtype)))

    class Unpickler(pickle.Unpickler):

        def find_class(self, module, name):
            module = module.replace('__builtin__', 'builtins')
            full_name = f'{module}.{name}'
            if full_name in SKIPPED_TYPES:
                return _Skipped
            if full_name in _DataOnlyPickle.ALLOWED:
                return super().find_class(module, name)
            return self.find_other(full_name)

        def find_other(self, full_name):
            raise pickle.UnpicklingError(f'GLOBAL {full_name}')

    @classmethod
    def load(cls, file, **kwargs):
        return cls.Unpickler(file, **kwargs).load()


class _OutlinePickle(_DataOnlyPickle):
    """Reads any file and skips whatever would run code, to see what it holds."""

    class Unpickler(_DataOnlyPickle.Unpickler):

        def find_other(self, full_name):
            return _Skipped


def _unpickle(file):
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):
        return torch.load(
            file, map_location='cpu', pickle_module=_DataOnlyPickle)
    skipped = [(_Skipped, name) for name in SKIPPED_TYPES]
    with torch.serialization.safe_globals(skipped):
        return torch.load(file, map_location='cpu', weights_only=True)


def _weights_index(file) -> str:
    """``['state_dict']`` or what else leads to the weights in a file."""
    file.seek(0)
    try:
        outline = torch.load(
            file, map_location='cpu', pickle_module=_OutlinePickle,
            weights_only=False)
    except Exception:  # a file made to be refused; nobody should open it
        return ''
    key = _weights_key(outline) if isinstance(outline, dict) else None
    return '' if key is None else f"['{key}']"


def _is_safetensors(file) -> bool:
    """Whether a file starts as safetensors do: a length, then a JSON object."""
    start = file.read(9)
    file.seek(0)
    return len(start) == 9 and start[8:] == b'{' and start[4:8] == bytes(4)


def _read_safetensors(path: str, file) -> dict:
    try:
        from safetensors.torch import load
    except ImportError:
        raise ConfigurationError(
            f'{path} needs the safetensors package: pip install safetensors.'
        ) from None
    try:
        return load(file.read())
    except Exception as error:  # its own error type, which it does not export
        raise ConfigurationError(
            f'{path} is no readable safetensors file; it may be truncated.'
        ) from error


def _open(path: str) -> BinaryIO:
    """Open a checkpoint, wherever it is."""
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
