"""One boundary for errors: what is raised while a run is prepared, in one sentence.

mmengine, the toolboxes and PyTorch raise errors of many types when a config is wrong:
a ``KeyError`` with the whole config, a ``TypeError`` from inside an optimizer. Here
each becomes a :class:`~mixedae_mm.utils.errors.ConfigurationError` that names the
key of the config. Errors of the training itself pass unchanged.
"""
import os
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Iterator, Optional

from mmengine.config import Config
from mmengine.runner import BaseLoop

from .. import compat
from ..utils.config_names import PREFIX, config_path, similar_config
from ..utils.errors import ConfigurationError, nearest
from .tracing import chain_of, frames_of, lines_of, message_of, users_line
from .tree import scope_of
from .unbuilt import why_not_built
from .unread import check_keys, check_options
from .values import check_values


def read_config(name: str, options: Optional[dict] = None) -> Config:
    """Read a config file, apply options, and check what both say.

    Args:
        name (str): A file, or ``mixedae_mm::NAME``.
        options (dict, optional): Key with dots -> value, of ``--cfg-options``.

    Raises:
        ConfigurationError: For a file that does not exist or cannot be read, a key
            or an option that nothing reads, a value that is not allowed, and a
            toolbox that is not installed.
    """
    path = Path(config_path(name) if name.startswith(PREFIX) else
                os.path.expanduser(name))
    if not path.is_file():
        raise ConfigurationError(
            f'config {name} does not exist{similar_config(path)}')
    try:
        cfg = Config.fromfile(path)
        check_keys(cfg)
        check_options(cfg, options or {})
        cfg.merge_from_dict(options or {})
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(_why_unreadable(error, path)) from error
    check_values(cfg)
    check_toolbox(cfg, name)
    return cfg


def check_toolbox(cfg: Config, name: str) -> None:
    """Refuse a config whose toolbox is not installed or cannot work."""
    scope = scope_of(cfg)
    if scope not in ('mmseg', 'mmdet'):
        return
    if not compat.is_available(scope):
        raise ConfigurationError(
            f'{name} is a config of {scope}, which is not installed: run '
            f'`{compat.install_command(scope)}`')
    if not compat.has_compiled_mmcv():
        raise ConfigurationError(
            f'{name} is a config of {scope}, which needs the compiled operators '
            'of mmcv, but the installed mmcv has none: build it with '
            '`pip install --no-build-isolation --no-cache-dir` against this PyTorch, '
            'or in a checkout of this project run `make test`')


@contextmanager
def preparing(cfg: Config) -> Iterator[None]:
    """Turn what is raised before the first step into one sentence.

    Args:
        cfg (Config): What is built inside the ``with``.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        frames = frames_of(error)
        if any(_is_running(frame) for frame in frames):
            raise  # of the training or the test
        raise ConfigurationError(why_not_built(error, frames, cfg)) from error


def _is_running(frame: FrameType) -> bool:
    """Whether this is the loop of a training or a test, or what follows it."""
    if frame.f_code.co_name == 'call_hook':
        return frame.f_locals.get('fn_name') == 'after_run'
    return frame.f_code.co_name == 'run' and isinstance(
        frame.f_locals.get('self'), BaseLoop)


def _why_unreadable(error: Exception, config: Path) -> str:
    frames, cause = frames_of(error), chain_of(error)[-1]
    values = {frame.f_code.co_name: frame.f_locals for frame in frames}
    if 'import_modules_from_strings' in values:
        module = values['import_modules_from_strings'].get('imp')
        return _why_not_imported(module, error, config)
    merged = [str(frame.f_locals.get('k')) for frame in frames
              if frame.f_code.co_name == '_merge_a_into_b']
    if 'merge_from_dict' in values:
        place = f' at {".".join(merged)}' if merged else ''
        return (f'--cfg-options cannot be applied to {config}{place}: '
                f'{message_of(error)}')
    # The config, and what it inherits, down to the file that cannot be read.
    opened = [frame.f_locals.get('filename') for frame in frames
              if frame.f_code.co_name in ('_file2dict', '_parse_lazy_import')]
    files = [str(config), *(file for file in opened if isinstance(file, str))]
    file = files[-1]
    if isinstance(cause, SyntaxError) and cause.lineno:
        lines = Path(file).read_text(errors='replace').splitlines()
        text = ''.join(lines[cause.lineno - 1:cause.lineno]).strip()
        return f'line {cause.lineno} of {file} is not Python: {cause.msg}: {text}'
    if isinstance(error, FileNotFoundError) and not Path(file).exists():
        near = nearest(Path(file).name,
                       [other.name for other in Path(file).parent.glob('*.*')])
        inherits = next(other for other in reversed(files) if Path(other).exists())
        return (f'_base_ of {inherits} names {file}, which does not exist'
                + (f': did you mean {near}?' if near else '.'))
    if '_substitute_env_variables' in values and isinstance(error, KeyError):
        name = values['_substitute_env_variables'].get('var_name')
        return f'the environment variable {name} is empty, but {file} needs it.'
    if merged:
        return f'{".".join(merged)} of {file} cannot be set: {message_of(error)}'
    line = next((f'line {number} of ' for frame, number in reversed(lines_of(error))
                 if frame.f_code.co_filename == file), '')
    return f'{line}{file} cannot be read: {type(error).__name__}: {message_of(error)}'


def _why_not_imported(module: Optional[str], error: Exception, config: Path) -> str:
    cause, place = chain_of(error)[-1], users_line(error)
    if isinstance(cause, SyntaxError) and cause.lineno:
        place = f'line {cause.lineno} of {cause.filename}'
    elif isinstance(cause, ModuleNotFoundError) and not place:
        place = 'PYTHONPATH says where to look'
    return (f'custom_imports of {config}'
            + (f' names {module}, which' if module else '')
            + f' cannot be imported: {type(cause).__name__}: {message_of(cause)}'
            + (f' ({place})' if place else ''))
