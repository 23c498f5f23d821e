"""Warnings in the log, and lists of names in their sentences."""
import logging
from typing import Iterable

from mmengine.logging import print_log

from .errors import ConfigurationError


def warn(sentence: str) -> None:
    """Write a warning into the log of the run, or outside of one into mmengine's."""
    print_log(sentence, logger='current', level=logging.WARNING)


def refuse_or_warn(sentence: str, refused: bool) -> None:
    """Raise a ConfigurationError where something cannot work, else :func:`warn`."""
    if refused:
        raise ConfigurationError(sentence)
    warn(sentence)


def reason_of(error: BaseException) -> str:
    """The message of an error in one line without its full stop, or its type."""
    return ' '.join(str(error).split()).rstrip('.') or type(error).__name__


def listed(names: Iterable[object], most: int = 8) -> str:
    """Names for a sentence, not more than ``most`` of them.

    >>> listed(['a', 'b', 'c'], most=2)
    'a, b and 1 more'
    """
    texts = list(map(str, names))
    more = f' and {len(texts) - most} more' if len(texts) > most else ''
    return ', '.join(texts[:most]) + more
