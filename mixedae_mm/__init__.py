"""MixedAE (Mixed Autoencoder) for mmpretrain, mmsegmentation and mmdetection.

Importing the package registers its components in mmengine's root registries,
so that every toolbox finds them by their bare names after
``custom_imports = dict(imports=['mixedae_mm'])``.
"""
from .compat import check_dependencies, separate_subset_copies
from .version import __version__

check_dependencies()  # before anything that would fail less clearly
separate_subset_copies()

from . import datasets, engine, evaluation, models  # noqa: E402,F401
from .utils.config_names import config_path, register  # noqa: E402

register()

__all__ = ['__version__', 'config_path', 'load']


def __getattr__(name):
    # Training needs neither the conversions nor what they import.
    if name == 'load':
        from .apis.encoder import load
        return load
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
