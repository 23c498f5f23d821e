"""Import packages that only some commands need."""
import importlib
from types import ModuleType

from .errors import ConfigurationError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module, such as ``'pyarrow.parquet'``.

    Raises:
        ConfigurationError: If it cannot be imported: ``purpose``, the beginning of the
            sentence, needs ``package``, which is what ``pip install`` calls it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f'{purpose} needs {package}, which cannot be imported ({error}): pip '
            f'install {package}.') from None
