"""MixedAE (Mixed Autoencoder) for mmpretrain, mmsegmentation and mmdetection.

Importing the package registers its components in mmengine's root registries,
so that every toolbox finds them by their bare names after
``custom_imports = dict(imports=['mixedae_mm'])``.
"""
import signal
import sys
from pathlib import Path

from .compat import (check_dependencies, leave_out_language_models,
                     separate_subset_copies, silence_onedl_notice)
from .utils.config_names import config_path, register
from .version import __version__

__all__ = ['__version__', 'config_path', 'load', 'predict', 'register_components']


def register_components() -> None:
    """Register everything that a config can name, once."""
    check_dependencies()  # before anything that would fail less clearly
    leave_out_language_models()
    silence_onedl_notice()
    separate_subset_copies()
    from . import datasets, engine, evaluation, models  # noqa: F401
    register(complete_config)


def complete_config(cfg):
    """Fill in what a config of ``own_labels/`` leaves out."""
    if 'own_labels' in cfg:
        from .config.own_labels import fill_in
        fill_in(cfg)


def __getattr__(name):
    # Training needs neither the conversions nor what they import.
    if name == 'load':
        from .apis.encoder import load
        return load
    if name == 'predict':
        from .apis.predict import predict
        return predict
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


# `python -m mixedae_mm` imports the package before it runs __main__, which lists
# commands without waiting for PyTorch, and registers before it runs one of them.
# While Python looks for the module, it says '-m' in the place of its path.
if not (sys.argv[0:1] == ['-m'] and 'mixedae_mm' in sys.orig_argv):
    try:
        register_components()
    except KeyboardInterrupt:
        tools = Path(__file__).resolve().parents[1] / 'tools'
        if tools not in Path(*sys.argv[:1]).resolve().parents:
            raise
        sys.exit(128 + signal.SIGINT)  # a command of ours, without a traceback
