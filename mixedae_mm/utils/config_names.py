"""Our configs by name, wherever the package is installed.

``mixedae_mm::mixedae_vitb_300e.py`` is to mean what ``mmpretrain::mae/...py``
does. But mmengine has a closed list of packages that may be named so, looks only
in subfolders, and has no plug-ins: importing this package is what adds us.
"""
import difflib
from pathlib import Path
from typing import Optional, Tuple

from .errors import ConfigurationError

PREFIX = 'mixedae_mm::'
PACKAGE = Path(__file__).resolve().parents[1]


def mim_folder() -> Path:
    """Folder with ``configs/``, ``tools/`` and ``model-index.yml``.

    ``.mim`` inside an installed package, as in all packages of OpenMMLab; the
    checkout itself where nothing was installed, or where ``.mim`` only links to it.
    """
    installed = PACKAGE / '.mim/configs'
    return installed.resolve().parent if installed.is_dir() else PACKAGE.parent


def config_path(name: str) -> str:
    """The file of a config of ours.

    >>> mmengine.Config.fromfile(mixedae_mm.config_path('mixedae_vitb_300e.py'))

    Args:
        name (str): Relative to ``configs/``, with or without ``mixedae_mm::``
            before it and ``.py`` behind it.

    Raises:
        ConfigurationError: If there is none of this name; with the most
            similar ones.
    """
    relative = Path(name.removeprefix(PREFIX))
    file = mim_folder() / 'configs' / relative
    if file.suffix != '.py':
        file = file.with_name(file.name + '.py')
    if relative.is_absolute() or not file.is_file():
        raise ConfigurationError(
            f'mixedae_mm has no config {name}{similar_config(relative)}.')
    return str(file)


def similar_config(path: Path) -> str:
    """A hint for a mistyped or wrongly rooted config name, else nothing."""
    folder = mim_folder() / 'configs'
    known = {file.stem: file for file in folder.rglob('*.py')
             if '_base_' not in file.parts}
    close = difflib.get_close_matches(path.stem, known, n=1, cutoff=0.6)
    return f': did you mean {known[close[0]]}?' if close else ''


def register() -> None:
    """Make our configs known to mmengine and, as models, to mmpretrain.

    ``_base_`` of any config may then name ours. Unlike with OpenMMLab's own
    packages, components keep the scope of the config that is read: ours are
    registered under their bare names. ``mmpretrain.list_models`` and
    ``get_model`` know what ``model-index.yml`` lists.
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
