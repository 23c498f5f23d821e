"""One boundary for errors: what is raised while a run is prepared, in one sentence.

mmengine, the toolboxes and PyTorch raise what comes to hand when a config is wrong:
a ``KeyError`` with the whole config, a ``TypeError`` from the depth of an optimizer.
Here it becomes a :class:`~mixedae_mm.utils.errors.ConfigurationError` that names the
key of the config. Errors of the training itself pass unchanged.
"""
import inspect
import re
from contextlib import contextmanager
from linecache import getline
from pathlib import Path
from types import FrameType
from typing import Any, Iterable, Iterator, List, NamedTuple, Optional, Tuple

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry
from mmengine.runner import BaseLoop

from ..utils.errors import ConfigurationError, nearest
from .config_tree import walk

LONGEST = 300  # characters of a library's message; some print whole configs


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn what is raised while a config file is read into one sentence."""
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(_why_unreadable(error, path)) from error


@contextmanager
def preparing(cfg: Config) -> Iterator[None]:
    """Turn what is raised before the first step into one sentence.

    Args:
        cfg (Config): What is built inside the ``with``.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        frames = _frames(error)
        if any(frame.f_code.co_name == 'run' and
               isinstance(frame.f_locals.get('self'), BaseLoop) for frame in frames):
            raise  # of the training or the test
        raise ConfigurationError(_why_not_built(error, frames, cfg)) from error


class Part(NamedTuple):
    """A part of the config that was being built."""

    path: str
    given: dict
    frame: FrameType


# ------------------------------------------------------------------ building


def _why_not_built(error: Exception, frames: List[FrameType], cfg: Config) -> str:
    part = _failed_part(frames, cfg) or Part('', cfg, frames[-1])
    message = _message(error)
    unknown = re.match(r'(?:Failed to get )?(\S+)(?: is not in the|$)', message)
    if unknown and isinstance(error, (KeyError, RuntimeError)) and (
            'Failed' in message or 'registry' in message):
        return _unknown_type(part, unknown[1], frames)
    if re.search('must contain the key "type"|cfg should be a dict', message):
        wrong = frames[-1].f_locals.get('cfg')
        path = _key_of(wrong, part, cfg) or part.path
        return (f'{path} is {_short(repr(wrong))}, but must be a dict with a type, '
                'which names what to build.')
    argument = re.search(r"(\w+)\.?\w*\(\) got an unexpected keyword argument '(\w+)'",
                         message)
    if argument:
        return _unknown_argument(part, *argument.groups(), cfg)
    missing = re.search(r"missing \d+ required \S+ arguments?: (.+)", message)
    looked_up = isinstance(error, KeyError) and re.fullmatch(r'\w+', message)
    if looked_up and _key_of(message, part, cfg):
        return (f'{_key_of(message, part, cfg)} is {message!r}, but there is nothing '
                'of this name.')
    if missing or looked_up:
        return (f'{part.path or "The config"}{_type(part)} needs '
                f'{missing[1] if missing else message}, which the config does not set.')
    unregistered = next(_unregistered(part), None)
    if unregistered:
        return _unknown_type(part, unregistered, frames)
    if not message:  # as that of an assertion
        frame, line = _lines(error)[-1]
        message = getline(frame.f_code.co_filename, line).strip()
    return (f'{part.path or "The config"}{_type(part)} cannot be built'
            f'{_arguments(part)}: {type(error).__name__}: {message}')


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
            equal = sum(_equal(given.get(key), value) for key, value in node.items())
            if equal > best and ('type' in node or 2 * equal >= len(node)):
                best, found = equal, (path, node)
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
                 for path, found in walk(node, above) if _equal(found, value)), None)


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
        if '__init__' not in vars(parent):
            continue
        parameters = list(inspect.signature(parent.__init__).parameters.values())[1:]
        names += [parameter.name for parameter in parameters
                  if parameter.kind not in (parameter.VAR_KEYWORD,
                                            parameter.VAR_POSITIONAL)]
        if all(parameter.kind != parameter.VAR_KEYWORD for parameter in parameters):
            break
    return list(dict.fromkeys(names))


def _type(part: Part) -> str:
    kind = part.given.get('type') if part.path else None
    return f' ({getattr(kind, "__name__", kind)})' if kind else ''


def _arguments(part: Part) -> str:
    """The plain values that a part was given."""
    if not part.path:
        return ''
    values = [f'{key}={value!r}' for key, value in part.given.items() if key != 'type'
              and isinstance(value, (str, int, float)) and key[:1] != '_']
    return f' with {", ".join(values)[:LONGEST]}' if values else ''


# ------------------------------------------------------------------- reading


def _why_unreadable(error: Exception, path: Path) -> str:
    frames = _frames(error)
    files = [frame.f_locals.get('filename') for frame in frames
             if frame.f_code.co_name in ('_file2dict', '_parse_lazy_import')]
    files = [str(path), *(str(file) for file in files if isinstance(file, str))]
    file = files[-1]
    syntax = next((cause for cause in reversed(_chain(error))
                   if isinstance(cause, SyntaxError) and cause.lineno), None)
    if syntax is not None:
        lines = Path(file).read_text(errors='replace').splitlines()
        text = lines[syntax.lineno - 1].strip() if syntax.lineno <= len(lines) else ''
        return f'line {syntax.lineno} of {file} is not Python: {syntax.msg}: {text}'
    if isinstance(error, FileNotFoundError) and not Path(file).exists():
        near = nearest(Path(file).name,
                       [other.name for other in Path(file).parent.glob('*.*')])
        inherits = next((other for other in reversed(files) if Path(other).exists()),
                        path)
        return (f'_base_ of {inherits} names {file}, which does not exist'
                + (f': did you mean {near}?' if near else '.'))
    variable = next((frame.f_locals for frame in frames
                     if frame.f_code.co_name == '_substitute_env_variables'), None)
    if variable is not None and isinstance(error, KeyError):
        return (f'the environment variable {variable.get("var_name")} is empty, but '
                f'{file} needs it.')
    if isinstance(error, ImportError) and isinstance(error.__cause__, ImportError):
        return (f'custom_imports of {file} cannot be imported: {error.__cause__}; '
                'PYTHONPATH says where to look.')
    merged = [str(frame.f_locals.get('k')) for frame in frames
              if frame.f_code.co_name == '_merge_a_into_b']
    if merged:
        return f'{".".join(merged)} of {file} cannot be set: {_message(error)}'
    line = next((f'line {number} of ' for frame, number in reversed(_lines(error))
                 if frame.f_code.co_filename == file), '')
    return f'{line}{file} cannot be read: {type(error).__name__}: {_message(error)}'


# ------------------------------------------------------------------- helpers


def _chain(error: BaseException) -> List[BaseException]:
    """An error, and those that it was raised from or during."""
    chain = [error]
    while chain[-1].__cause__ or chain[-1].__context__:
        following = chain[-1].__cause__ or chain[-1].__context__
        if following in chain:
            break
        chain.append(following)
    return chain


def _lines(error: BaseException) -> List[Tuple[FrameType, int]]:
    """Frames from the outermost to where it began, each with its line."""
    lines = []
    for one in _chain(error):
        traceback = one.__traceback__
        while traceback is not None:
            lines.append((traceback.tb_frame, traceback.tb_lineno))
            traceback = traceback.tb_next
    return lines


def _frames(error: BaseException) -> List[FrameType]:
    return [frame for frame, _ in _lines(error)]


def _message(error: BaseException) -> str:
    """What a library says, in one line, without the configs that some print."""
    text = error.args[0] if isinstance(error, KeyError) and error.args else error
    return re.sub(r',? but got \w+=.*', '', _short(str(text)))


def _short(value: Any) -> str:
    """A value in one line of bearable length; text as it is."""
    text = ' '.join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= LONGEST else f'{text[:LONGEST]}...'


def _equal(one: Any, other: Any) -> bool:
    try:
        return bool(one == other)
    except Exception:  # arrays and tensors have no single answer
        return False
