"""Our configs by name, wherever the package is installed; any path in DATA_ROOT.

``mixedae_mm::mixedae_vitb_300e.py`` is to mean what ``mmpretrain::mae/...py``
does. But mmengine has a closed list of packages that may be named so, looks only
in subfolders, and has no plug-ins: importing this package is what adds us.
"""
import os
import re
from pathlib import Path
from typing import Callable, Dict, Optional, Tuple

from .errors import ConfigurationError, nearest

PREFIX = 'mixedae_mm::'
PACKAGE = Path(__file__).resolve().parents[1]


def mim_folder() -> Path:
    """Folder with ``configs/``, ``tools/`` and ``model-index.yml``.

    ``.mim`` inside an installed package, as in all packages of OpenMMLab, otherwise the
    checkout, to which ``.mim`` may link.
    """
    installed = PACKAGE / '.mim/configs'
    return installed.resolve().parent if installed.is_dir() else PACKAGE.parent


def config_path(name: str) -> str:
    """The file of a config of ours.

    >>> file = mixedae_mm.config_path('mixedae_vitb_300e.py')
    >>> config = mmengine.Config.fromfile(file)

    The name is relative to ``configs/``, with or without ``mixedae_mm::`` before it and
    ``.py`` behind it. If there is none, a ConfigurationError names the most similar.
    """
    relative = Path(name.removeprefix(PREFIX))
    file = mim_folder() / 'configs' / relative
    if file.suffix != '.py':
        file = file.with_name(file.name + '.py')
    if relative.is_absolute() or not file.is_file():
        raise ConfigurationError(
            f'mixedae_mm has no config {name}{similar_config(relative)}')
    return str(file)


def similar_config(path: Path) -> str:
    """A hint for a mistyped or wrongly rooted config name, else nothing."""
    folder = mim_folder() / 'configs'
    known = {file.stem: file for file in folder.rglob('*.py')
             if '_base_' not in file.parts}
    close = nearest(path.stem, known)
    return f': did you mean {known[close]}?' if close else ''


def register(complete: Callable) -> None:
    """Make our configs known to mmengine and, as models, to mmpretrain.

    ``_base_`` of any config may then name ours; components keep the scope of the config
    that is read. ``mmpretrain.list_models`` and ``get_model`` know what
    ``model-index.yml`` lists. Environment variables in configs may hold any path.
    ``complete`` changes every config that is read from a file, in place.
    """
    from mmengine.config import Config
    from mmpretrain.apis.model import ModelHub
    index = mim_folder() / 'model-index.yml'
    # Neither twice, nor where somebody took the package's folder alone.
    if index.is_file() and not ModelHub.has('mixedae_vitb_300e'):
        ModelHub.register_model_index(index, index.parent)
    theirs = Config._get_cfg_path

    def get_cfg_path(cfg_path: str, filename: str) -> Tuple[str, Optional[str]]:
        if cfg_path.startswith(PREFIX):
            return config_path(cfg_path), None
        return theirs(cfg_path, filename)

    Config._get_cfg_path = staticmethod(get_cfg_path)
    fromfile = Config.fromfile

    def read_and_complete(*args, **kwargs) -> Config:
        cfg = fromfile(*args, **kwargs)
        complete(cfg)
        return cfg

    Config.fromfile = staticmethod(read_and_complete)
    substitute = Config._substitute_env_variables

    def substitute_env_variables(source: str, target: str) -> dict:
        used = write_as_literals(Path(source)) if source.endswith('.py') else {}
        return {**substitute(source, target), **used}

    Config._substitute_env_variables = staticmethod(substitute_env_variables)


def write_as_literals(file: Path) -> Dict[str, str]:
    """Fill in environment variables that would break the text of a config.

    mmengine puts the value of ``'{{$DATA_ROOT:data}}'`` between the quotes as it is, so
    that a quote in a folder's name ends the string, and a backslash begins an escape.
    The file, a copy of a config, is changed; returns what was filled in, by name.
    """
    escapes = str.maketrans(
        {'\\': r'\\', "'": r"\'", '"': r'\"', '\n': r'\n'})
    used = {}

    def fill_in(place: 're.Match[str]') -> str:
        value = os.environ.get(place[1], '')
        if value == value.translate(escapes):
            return place[0]
        used[place[1]] = value
        return value.translate(escapes)

    text = file.read_text(encoding='utf-8')
    # Quotes inside the braces mean that Python code is filled in, not text.
    text = re.sub(r'\{\{\s*\$(\w+)\s*:[^\'"{}]*\}\}', fill_in, text)
    if used:
        file.write_text(text, encoding='utf-8')
    return used
