"""Walking through a config by keys with dots, as in ``--cfg-options``."""
import os
from typing import Any, Iterator, Sequence, Tuple, Union

from mmengine.config import Config


def walk(node: Any, path: str = '') -> Iterator[Tuple[str, Any]]:
    """Every key with dots below a node, such as ``model.backbone``, and its value."""
    items = (enumerate(node) if isinstance(node, (list, tuple)) else
             node.items() if isinstance(node, (dict, Config)) else ())
    for key, value in items:
        below = f'{path}.{key}' if path else str(key)
        yield below, value
        yield from walk(value, below)


def resolve(node: Any, keys: Sequence[str]) -> Any:
    """The value at a path of keys, None if there is none."""
    for key in keys:
        if isinstance(node, (list, tuple)) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, (dict, Config)) and key in node:
            node = node[key]
        else:
            return None
    return node


def scope_of(cfg: Union[dict, Config]) -> str:
    """The toolbox of a config, or mmengine.

    Configs in Python's own syntax may name the class of a model instead of a scope.
    """
    model = cfg.get('model')
    kind = model.get('type') if isinstance(model, dict) else None
    name = kind if isinstance(kind, str) else getattr(kind, '__module__', '')
    package = name.partition('.')[0]
    toolbox = package if package in ('mmpretrain', 'mmseg', 'mmdet') else 'mmengine'
    return cfg.get('default_scope') or toolbox


def runner_of(cfg: Config) -> str:
    """Name of the runner that a config asks for, by its name or as the class."""
    return type_name(dict(type=cfg.get('runner_type'))) or 'Runner'


def expand_home(node: Any) -> None:
    """Replace, in place, ``~`` and a leading ``~/`` of every path in a config.

    A shell does so only outside quotes, and data sets do not.
    """
    for key, value in (list(enumerate(node)) if isinstance(node, list) else
                       list(node.items()) if isinstance(node, (dict, Config)) else ()):
        if isinstance(value, str) and (value == '~' or value.startswith('~/')):
            node[key] = os.path.expanduser(value)
        else:
            expand_home(value)


def type_name(node: dict) -> str:
    """Name of the registered type of a config node, '' if it has none.

    Old configs write a name, with or without a scope, new ones the class itself.
    """
    kind = node.get('type') or ''
    if isinstance(kind, str):
        return kind.rpartition('.')[2]
    return getattr(kind, '__name__', '')
