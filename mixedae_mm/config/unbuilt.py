"""Why a part of a config cannot be built, in one sentence that names its key."""
import inspect
import re
from linecache import getline
from types import FrameType
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from ..datasets.checks import explain_failure
from ..utils.errors import nearest
from .tracing import LONGEST, equal, lines_of, message_of, short, users_line
from .tree import walk


class Part(NamedTuple):
    """A part of the config that was being built; the whole one has no path."""

    path: str
    given: dict
    frame: FrameType

    def __str__(self) -> str:
        kind = self.given.get('type') if self.path else None
        return (self.path or 'The config') + (
            f' ({getattr(kind, "__name__", kind)})' if kind else '')


def why_not_built(error: Exception, frames: List[FrameType], cfg: Config) -> str:
    """One sentence about the part of a config that cannot be built."""
    part = _failed_part(frames, cfg) or Part('', cfg, frames[-1])
    if re.search(r'(dataloader|dataset|datasets\.\d+)$', part.path):
        explain_failure(part.given.get('dataset', part.given), part.path)
    message = message_of(error)
    unknown = re.match(r'(?:Failed to get )?(\S+)(?: is not in the|$)', message)
    if unknown and isinstance(error, (KeyError, RuntimeError)) and (
            'Failed' in message or 'registry' in message):
        return _unknown_type(part, unknown[1], frames)
    if re.search('must contain the key "type"|cfg should be a dict', message):
        wrong = frames[-1].f_locals.get('cfg')
        path = _key_of(wrong, part, cfg) or part.path
        return (f'{path} is {short(repr(wrong))}, but must be a dict with a type, '
                'which names what to build.')
    argument = re.search(r"(\w+)\.?\w*\(\) got an unexpected keyword argument '(\w+)'",
                         message)
    if argument:
        return _unknown_argument(part, argument[1], argument[2], cfg)
    missing = re.search(r"missing \d+ required \S+ arguments?: (.+)", message)
    place = users_line(error)
    looked_up = (isinstance(error, KeyError) and re.fullmatch(r'\w+', message)
                 and not place)  # of code of the user's own, it may be any key
    if looked_up and _key_of(message, part, cfg):
        return (f'{_key_of(message, part, cfg)} is {message!r}, but there is nothing '
                'of this name.')
    if missing or looked_up:
        return (f'{part} needs {missing[1] if missing else message}, which the config '
                'does not set.')
    unregistered = next(_unregistered(part), None)
    if unregistered:
        return _unknown_type(part, unregistered, frames)
    if not message:  # as that of an assertion
        frame, line = lines_of(error)[-1]
        message = getline(frame.f_code.co_filename, line).strip()
    reason = f'{type(error).__name__}: {message}'
    if place and not part.path:  # all parts are built: a hook, for one
        return f'{place} fails before the first step: {reason}'
    values = [f'{key}={value!r}' for key, value in part.given.items() if part.path
              and isinstance(value, (str, int, float)) and key != 'type'
              and key[:1] != '_']
    given = f' with {", ".join(values)[:LONGEST]}' if values else ''
    return f'{part} cannot be built{given}: {reason}{f" ({place})" if place else ""}'


def _failed_part(frames: List[FrameType], cfg: Config) -> Optional[Part]:
    """The innermost part of ``cfg`` that was being built, None before the first.

    Builders work on copies that they change a little, so that a part is known by
    its type and most of its values.
    """
    part = None
    for frame in frames:
        if not frame.f_globals.get('__name__', '').startswith('mmengine.'):
            continue
        if not re.search('build|register_hook|wrap_model', frame.f_code.co_name):
            continue
        names = frame.f_code.co_varnames[:frame.f_code.co_argcount]
        given = next((frame.f_locals[name] for name in names
                      if isinstance(frame.f_locals.get(name), dict)), None)
        if given is None:
            continue
        found = part and _most_alike(
            given, [(part.path, part.given), *walk(part.given, part.path)])
        # A loop builds its data loader, which is not below it in the config.
        found = found or _most_alike(given, walk(cfg))
        part = Part(*found, frame) if found else part
    return part


def _most_alike(given: dict, nodes: Iterable) -> Optional[Tuple[str, dict]]:
    best, found = 0, None
    for path, node in nodes:
        if isinstance(node, dict) and node.get('type') == given.get('type'):
            same = sum(equal(given.get(key), value) for key, value in node.items())
            if same > best and ('type' in node or 2 * same >= len(node)):
                best, found = same, (path, node)
    return found


def _unknown_type(part: Part, name: str, frames: List[FrameType]) -> str:
    registry = next((frame.f_locals['registry'] for frame in reversed(frames)
                     if isinstance(frame.f_locals.get('registry'), Registry)), None)
    names = list(_registered(registry))
    bare = name.rpartition('.')[2]
    # The same name in another scope is nearer than any other name in this one.
    close = next((other for other in names if other.rpartition('.')[2] == bare),
                 nearest(bare, names))
    key = _key_of(name, part, {}) or f'{part.path}.type'
    return (f'{key} is {name!r}, but nothing of this name is registered'
            + (f' among the {registry.name}s' if registry else '')
            + (f': did you mean {close!r}?' if close else
               '; custom_imports of the config imports what registers it.'))


def _key_of(value: Any, part: Part, cfg: Config) -> Optional[str]:
    """Key with dots of a value, in the part or else anywhere."""
    return next((path for node, above in ((part.given, part.path), (cfg, ''))
                 for path, found in walk(node, above) if equal(found, value)), None)


def _registered(registry: Optional[Registry]) -> Iterator[str]:
    """Names of a registry and of those above it, and of other scopes with these."""
    while registry is not None:
        yield from registry.module_dict
        for scope, child in registry.children.items():
            yield from (f'{scope}.{name}' for name in child.module_dict)
        registry = registry.parent


def _unregistered(part: Part) -> Iterator[str]:
    """Types below a part that no registry has; a few builders do not check theirs."""
    known = {name for registry in vars(mmengine.registry).values()
             if isinstance(registry, Registry) for name in _registered(registry)}
    known |= {name.rpartition('.')[2] for name in known}
    for path, value in walk(part.given, part.path):
        if path.endswith('.type') and isinstance(value, str) and (
                value.rpartition('.')[2] not in known):
            yield value


def _unknown_argument(part: Part, function: str, name: str, cfg: Config) -> str:
    """An argument that a constructor does not have, whose caller may be another."""
    if name in part.given:
        path = f'{part.path}.{name}' if part.path else name
    else:
        path = next((path for path, _ in walk(cfg)
                     if path.rpartition('.')[2] == name), name)
    built = part.frame.f_locals.get('obj_cls') or part.frame.f_globals.get(function)
    known = _parameters(built) if inspect.isclass(built) else []
    close = nearest(name, [*known, 'type'])
    what = getattr(built, '__name__', function)
    return (f'{path} is not an argument of {what}'
            + (f': did you mean {close}?' if close else
               f', which takes {", ".join(known)}.' if known else '.'))


def _parameters(cls: type) -> List[str]:
    """Names that a constructor takes, with those that it hands to its parents."""
    names: List[str] = []
    for parent in cls.__mro__[:-1]:
        constructor = vars(parent).get('__init__')
        if constructor is None:
            continue
        parameters = list(inspect.signature(constructor).parameters.values())[1:]
        names += [parameter.name for parameter in parameters
                  if parameter.kind not in (parameter.VAR_KEYWORD,
                                            parameter.VAR_POSITIONAL)]
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            break
    return list(dict.fromkeys(names))
