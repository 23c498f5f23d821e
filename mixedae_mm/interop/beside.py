"""Read the JSON files in the folder of a checkpoint, if they describe its model."""
import json
import logging
import posixpath
import re
from pathlib import Path
from typing import Iterable
from urllib.parse import urlsplit, urlunsplit

from mmengine import fileio
from mmengine.logging import print_log
from torch import Tensor

from ..utils.errors import ConfigurationError

TITLES = {'timm': 'timm', 'hf': 'Hugging Face'}
# A config.json with one of these keys is of the library.
CONFIG_KEYS = {
    'timm': ('architecture', 'model_args', 'pretrained_cfg'),
    'hf': ('model_type', 'hidden_size'),
}
# In the number of a layer, but not of a decoder's.
LAYER_NUMBER = re.compile(r'(?<!decoder_)(?:blocks|encoder\.layer)\.(\d+)\.')


def own_config(path: str, column: str, projection: Tensor,
               names: Iterable[str]) -> dict:
    """The ``config.json`` of a checkpoint; empty if it has none.

    Beside a file there may be another model's, which is said and not used; in
    a folder that is given as a whole this is an error.

    Args:
        path (str): File, folder or address of the checkpoint.
        column (str): Whose names it uses: ``'timm'`` or ``'hf'``.
        projection (Tensor): ``(width, 3, P, P)``, its patch embedding.
        names (Iterable[str]): Of all its tensors.
    """
    config = json_beside(path, 'config.json')
    problem = config and _disagreement(config, column, projection, names)
    if not problem:
        return config
    sentence = f'The config.json of {path} is of another model: {problem}'
    if Path(path).expanduser().is_dir():
        raise ConfigurationError(f'{sentence}.')
    print_log(f'{sentence}; it was not used.', 'current', logging.WARNING)
    return {}


def _disagreement(config: dict, column: str, projection: Tensor,
                  names: Iterable[str]) -> str:
    """In what a config is not that of the tensors; empty if it may be."""
    if not any(key in config for key in CONFIG_KEYS[column]):
        return f'it is not one of {TITLES[column]}, whose names the tensors have'
    numbers = [int(found[1]) for found in map(LAYER_NUMBER.search, names) if found]
    arguments = config.get('model_args') or {}
    for what, said, there in (
        ('width', config.get('hidden_size') or arguments.get('embed_dim')
         or config.get('num_features'), projection.shape[0]),
        ('number of layers', config.get('num_hidden_layers')
         or arguments.get('depth'), max(numbers, default=-1) + 1),
        ('patch size', config.get('patch_size') or arguments.get('patch_size'),
         projection.shape[-1]),
    ):
        if said not in (None, there, [there, there]):
            return f'{what} {said}, but {there} in the weights'
    return ''


def json_beside(path: str, name: str) -> dict:
    """Content of a JSON file in or beside a checkpoint; empty if there is none.

    Raises:
        ConfigurationError: If a file of a folder that is given as a whole
            cannot be read. Beside a file it may belong to something else,
            which is said.
    """
    is_folder = False
    if '://' in path:
        address = urlsplit(path)
        file = urlunsplit(address._replace(
            path=posixpath.join(posixpath.dirname(address.path), name)))
    else:
        place = Path(path).expanduser()
        is_folder = place.is_dir()
        file = str((place if is_folder else place.parent) / name)
    try:
        content = json.loads(fileio.get(file))
    except OSError:  # not there; what must be assumed then is said
        return {}
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    if is_folder:
        raise ConfigurationError(f'{file} cannot be read as a JSON object.')
    print_log(f'{file} cannot be read as a JSON object; it was not used.', 'current',
              logging.WARNING)
    return {}
