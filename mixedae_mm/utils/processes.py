"""What several processes of one run do together."""
from typing import Any, Callable, List, TypeVar

from mmengine.dist import broadcast_object_list, is_main_process

from .errors import ConfigurationError

T = TypeVar('T')


def from_main_process(action: Callable[[], T]) -> T:
    """Call ``action`` in the first process only, and return its result in all.

    A collective operation: every process of a distributed run must call it. What goes
    wrong in the first process is raised there as it is, and in the others, which would
    wait for ever, as a :class:`ConfigurationError`.
    """
    message: List[Any] = [None, None]
    try:
        if is_main_process():
            message[0] = action()
    except Exception as error:
        message[1] = str(error) or repr(error)
        broadcast_object_list(message)
        raise
    broadcast_object_list(message)
    if message[1] is not None:
        raise ConfigurationError(message[1])
    return message[0]
