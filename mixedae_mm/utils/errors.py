"""The one error type for arguments, configurations and data that cannot work."""
from difflib import get_close_matches
from typing import Dict, Iterable


class ConfigurationError(ValueError):
    """A value given by the user is not allowed.

    The message is one sentence: what is wrong, where, and what is allowed.
    """


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Find the known name that is most like a mistyped one, '' if there is none.

    Upper and lower case do not count; of names that are equal but for them, it is the
    first. ``cutoff`` is the least likeness, in [0, 1], as
    in :func:`difflib.get_close_matches`.
    """
    by_lower: Dict[str, str] = {}
    for each in known:
        by_lower.setdefault(each.lower(), each)
    close = get_close_matches(name.lower(), by_lower, n=1, cutoff=cutoff)
    return by_lower[close[0]] if close else ''
