"""One boundary for errors: what is raised while a run is prepared, in one sentence.

mmengine, the toolboxes and PyTorch raise errors of many types when a config is wrong:
a ``KeyError`` with the whole config, a ``TypeError`` from inside an optimizer. Here
each becomes a :class:`~mixedae_mm.utils.errors.ConfigurationError` that names the
key of the config. Errors of the training itself pass unchanged.
"""
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Iterator

from mmengine.config import Config
from mmengine.runner import BaseLoop

from ..utils.errors import ConfigurationError
from .tracing import frames_of
from .unbuilt import why_not_built
from .unreadable import why_unreadable


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what is raised while a config file is read into one sentence."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(why_unreadable(error, path)) from error


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
