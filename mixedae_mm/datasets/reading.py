"""Read files, and try again where a network may have failed for a moment."""
import errno
import time
from typing import Callable, Optional, TypeVar

from mmengine import fileio

T = TypeVar('T')

# Seconds before the second and the third try.
WAITS = (0.2, 1.0)
# Errors about the path itself: trying again at once does not help.
LASTING = frozenset((errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR,
                     errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP,
                     errno.EINVAL))


def read_file(path: str, backend_args: Optional[dict] = None) -> bytes:
    """Read a file as :func:`mmengine.fileio.get`; see :func:`try_again`."""
    return try_again(lambda: fileio.get(path, backend_args=backend_args))


def try_again(action: Callable[[], T]) -> T:
    """Return what ``action`` returns; call it up to three times while it fails.

    Raises:
        OSError: The first one that is :data:`LASTING`, or the third.
    """
    for wait in WAITS:
        try:
            return action()
        except OSError as error:
            if error.errno in LASTING:
                raise
        time.sleep(wait)
    return action()
