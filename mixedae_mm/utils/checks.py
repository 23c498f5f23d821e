"""Checks of arguments, each with one sentence that says what is allowed.

All of them raise a :class:`ConfigurationError`; those of one value return it.
"""
from numbers import Integral, Real
from typing import Any, Callable, Collection, Optional, Sequence

from .errors import ConfigurationError


def check_number(name: str, value: Any, is_allowed: Callable[[Any], bool],
                 allowed: str) -> Any:
    """Refuse a value that is not a number, such as a bool, or not an allowed number.

    ``is_allowed`` is False for NaN, as comparisons are; ``allowed`` says the same in
    words, after "but must".
    """
    if isinstance(value, bool) or not (isinstance(value, Real) and is_allowed(value)):
        raise ConfigurationError(f'{name} is {value!r}, but must {allowed}.')
    return value


def check_count(name: str, value: Any, at_least: int = 1,
                at_most: Optional[int] = None) -> Any:
    """Refuse what is not a whole number from ``at_least`` to ``at_most``."""
    allowed = (f'of at least {at_least}' if at_most is None else
               f'in [{at_least}, {at_most}]')
    return check_number(
        name, value, lambda number: isinstance(number, Integral)
        and at_least <= int(number) and (at_most is None or int(number) <= at_most),
        f'be an integer {allowed}')


def check_flag(name: str, value: Any) -> bool:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ConfigurationError(f'{name} is {value!r}, but must be True or False.')
    return value


def check_names(names: Sequence[str], number: int, of: str, option: str) -> None:
    """Refuse names that are not as many as needed, or of which two are the same.

    ``of`` is what they name, in the plural, and ``option`` what gives them.
    """
    if len(names) != number or len(set(names)) != len(names):
        raise ConfigurationError(
            f'{number} {of} need as many different names ({option}), but they are '
            f'{", ".join(names)}.')


def check_choice(name: str, value: Any, choices: Collection) -> Any:
    """Refuse what is not one of the choices."""
    if value not in choices:
        raise ConfigurationError(
            f'{name} is {value!r}, but must be one of {tuple(choices)}.')
    return value
