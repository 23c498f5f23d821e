"""Import packages that only some commands need."""
import importlib
from types import ModuleType

from .errors import ConfigurationError


def require(module: str, package: str, purpose: str) -> ModuleType:
    """Import a module, such as ``'pyarrow.parquet'``.

    Args:
        module (str): To import.
        package (str): What ``pip install`` calls it.
        purpose (str): What needs it: the beginning of the sentence.

    Raises:
        ConfigurationError: If it cannot be imported; it says what to install.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f'{purpose} needs {package}, which cannot be imported ({error}): pip '
            f'install {package}.') from None
