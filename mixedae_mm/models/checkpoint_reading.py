"""Checkpoint files read as data: tensors and containers, never code."""
import ast
import pickle
import re
from typing import Any, BinaryIO, Dict, Optional

import torch

from ..utils.errors import ConfigurationError
from .checkpoint_files import open_checkpoint
from .checkpoint_names import WRAPPERS
from .checkpoint_pickle import outline, unpickle

# Where training scripts keep the weights; the first that is there counts. In this
# order: mmengine and Lightning; Meta and timm; others; DINO, whose teacher is the
# result; DeepSpeed.
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
    with open_checkpoint(path) as file:
        return _read(path, file)


def _read(path: str, file: BinaryIO) -> dict:
    if _is_safetensors(file):
        return _read_safetensors(path, file)
    try:
        checkpoint = unpickle(file)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError,
            TypeError, KeyError, OSError) as error:
        code = re.search(r'GLOBAL (\S+)', str(error))
        if code is None:
            raise ConfigurationError(
                f'{path} is not a readable checkpoint; it may be truncated, or '
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
        dict: The assigned values. What is not a literal becomes the text that it
        is written with. Empty if the text is not Python.
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


def _literal(node: ast.AST) -> Any:
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


def _weights_index(file: BinaryIO) -> str:
    """``['state_dict']`` or what else leads to the weights in a file."""
    file.seek(0)
    try:
        content = outline(file)
    except Exception:  # made to do harm: say nothing of how to open it
        return ''
    key = _weights_key(content) if isinstance(content, dict) else None
    return '' if key is None else f"['{key}']"


def _is_safetensors(file: BinaryIO) -> bool:
    """Whether a file starts as safetensors do: a length, then a JSON object."""
    start = file.read(9)
    file.seek(0)
    return len(start) == 9 and start[8:] == b'{' and start[4:8] == bytes(4)


def _read_safetensors(path: str, file: BinaryIO) -> dict:
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
            f'{path} is not a readable safetensors file; it may be truncated.'
        ) from error
