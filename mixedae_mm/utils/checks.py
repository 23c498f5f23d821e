"""Is an argument what it must be? One sentence where it is not."""
import difflib
import inspect
from numbers import Integral, Real
from typing import Any, Callable, Iterable, Sequence

from .errors import ConfigurationError


def check_number(name: str,
                 value: Any,
                 is_allowed: Callable[[float], bool],
                 allowed: str,
                 kind: type = Real) -> None:
    """Refuse what is no number (a bool is none), or not one of those allowed.

    Args:
        name (str): Of the argument.
        value: What was given.
        is_allowed (callable): Of a number; False for NaN, as comparisons are.
        allowed (str): The same in words, after "but must".
        kind (type): ``Real``, or ``Integral`` for whole numbers.

    Raises:
        ConfigurationError: Naming argument, value and what is allowed.
    """
    if (isinstance(value, bool) or not isinstance(value, kind)
            or not is_allowed(value)):
        raise ConfigurationError(f'{name} is {value!r}, but must {allowed}.')


def check_count(name: str, value: Any, at_least: int = 1) -> None:
    """Refuse what is no whole number of at least ``at_least``."""
    check_number(name, value, lambda number: number >= at_least,
                 f'be an integer of at least {at_least}', Integral)


def check_probability(name: str, value: Any) -> None:
    """Refuse what is no probability of dropping something."""
    check_number(name, value, lambda number: 0 <= number < 1, 'lie in [0, 1)')


def check_flag(name: str, value: Any) -> None:
    """Refuse what is neither True nor False."""
    if not isinstance(value, bool):
        raise ConfigurationError(
            f'{name} is {value!r}, but must be True or False.')


def check_choice(name: str, value: Any, choices: Sequence) -> None:
    """Refuse what is none of the choices."""
    if value not in choices:
        raise ConfigurationError(
            f'{name} is {value!r}, but must be one of {tuple(choices)}.')


def check_side(name: str, value: Any) -> None:
    """Refuse what is neither a number of pixels nor a pair (height, width)."""
    sides = value if isinstance(value, (list, tuple)) else (value, value)
    if len(sides) != 2:
        raise ConfigurationError(
            f'{name} is {value!r}, but must be a number of pixels, or height '
            'and width.')
    for side in sides:
        check_count(name, side)


def check_heads(name: str, width: int, num_heads: int) -> None:
    """Refuse a width that attention heads cannot share equally."""
    if width % num_heads:
        raise ConfigurationError(
            f'{name}: {num_heads} heads cannot share a width of {width}; it '
            'must be a multiple of their number.')


def check_norm(name: str, config: Any) -> None:
    """Refuse a normalisation that does not work on tokens ``(B, N, C)``."""
    kind = config.get('type') if isinstance(config, dict) else None
    if kind != 'LN' and not inspect.isclass(kind):
        raise ConfigurationError(
            f"{name} is {config!r}, but must be dict(type='LN', ...), or have a "
            'class of your own that normalises the last dimension.')
    if kind == 'LN':
        check_number(f'{name}.eps', config.get('eps', 1e-5),
                     lambda eps: 0 < eps < 1, 'lie in (0, 1)')


def check_part(name: str, config: Any, registry) -> None:
    """Refuse a part of a config that no class of the registry can be built of.

    Args:
        name (str): Of the part.
        config: Should be a dict with ``type`` and arguments of that class.
        registry (Registry): Where the class is looked up.

    Raises:
        ConfigurationError: For another type than dict, an unknown class, an
            argument that neither it nor its parents have.
    """
    if not isinstance(config, dict):
        raise ConfigurationError(
            f'{name} is {config!r}, but must be a dict with a type.')
    kind = config.get('type')
    if isinstance(kind, str):
        kind = registry.get(kind)
    if not inspect.isclass(kind):
        raise ConfigurationError(
            f'{name}.type is {config.get("type")!r}, but must be the name of a '
            'registered class, or a class.')
    check_names(name, [key for key in config if key != 'type'], kind)


def check_names(name: str, keys: Iterable[str], cls: type) -> None:
    """Refuse names that are no arguments of a class."""
    known = _arguments(cls)
    for key in keys:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f'; did you mean {close[0]}?' if close else '.'
            raise ConfigurationError(
                f'{name} has no argument {key!r}: a {cls.__name__} takes '
                f'{", ".join(sorted(known))}{hint}')


def _arguments(cls: type) -> set:
    """Names that a constructor takes; those of ``**kwargs`` from the parents."""
    names = set()
    for parent in cls.__mro__:
        if '__init__' not in vars(parent):
            continue
        parameters = list(inspect.signature(parent.__init__).parameters.values())
        names |= {
            parameter.name for parameter in parameters[1:]
            if parameter.kind not in (parameter.VAR_KEYWORD,
                                      parameter.VAR_POSITIONAL)
        }
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            break
    return names
