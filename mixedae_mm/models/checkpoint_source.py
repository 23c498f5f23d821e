"""What a checkpoint offers to a model: weights by mmpretrain's names, and grids."""
from math import isqrt
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from torch import Tensor

from .checkpoint_fitting import below
from .checkpoint_grids import Grid
from .checkpoint_names import (COLUMN_TITLES, MAIN_VIT, WRAPPERS, to_mm_names,
                               vit_prefixes)
from .checkpoint_reading import literal_config, read_checkpoint, weights_of


class Source(NamedTuple):
    """Weights, and what is known of them.

    Attributes:
        path (str): Of their file, for messages.
        weights (dict[str, Tensor]): By mmpretrain's names.
        converted (str): The library whose names the file has; empty for
            mmpretrain's.
        grids (dict[str, tuple[int, int]]): Rows and columns of patches, by the
            prefix of the part that has positions, without its dot.
    """
    path: str
    weights: Dict[str, Tensor]
    converted: str = ''
    grids: Dict[str, Grid] = {}

    def grid_of(self, prefix: str) -> Optional[Grid]:
        """The patch grid of a part, or that of the backbone; None if not known."""
        return self.grids.get(prefix[:-1], self.grids.get('backbone'))

    def below(self, prefix: Optional[str]) -> Dict[str, Tensor]:
        """The weights whose names begin with a prefix, without the prefix."""
        return below(self.weights, with_dot(prefix or ''))

    def other_names(self) -> str:
        """End of a sentence: ViTs in the file that were not chosen or converted."""
        for column, title in COLUMN_TITLES.items():
            found = vit_prefixes(self.weights, column)
            if column != 'mm' and found and not self.converted:
                return (f', but ViTs in those of {title} under {found}; choose one '
                        'by prefix=')
        return ''


def with_dot(prefix: str) -> str:
    """A prefix as names have it: ``'backbone.'`` also for ``'backbone'``."""
    return prefix if prefix.endswith('.') or not prefix else f'{prefix}.'


def read_source(path: str, prefix: Optional[str] = None) -> Source:
    """Read the weights of a file, and give them mmpretrain's names.

    Args:
        path (str): As in :func:`.checkpoint_reading.read_checkpoint`.
        prefix (str, optional): Which of several ViTs to convert.

    Raises:
        ConfigurationError: If the file cannot be read as weights.
    """
    return source_of(read_checkpoint(path), path, prefix)


def source_of(checkpoint: dict, path: str, prefix: Optional[str] = None) -> Source:
    """As :func:`read_source`, for a file that was read already."""
    weights = weights_of(checkpoint, path)
    grids = dict(noted_grids(checkpoint))
    if vit_prefixes(weights, 'mm'):
        return Source(path, weights, '', grids)
    for column in ('timm', 'hf'):
        found = vit_prefixes(weights, column)
        wanted = MAIN_VIT if prefix is None else (with_dot(prefix), '')
        for start in wanted if len(found) != 1 or prefix else found:
            if start in found:
                weights = to_mm_names(weights, column, start)
                # All these libraries train on square images; weights of any
                # other shape are refused when they are fitted.
                positions = weights.get('backbone.pos_embed')
                side = 0 if positions is None else isqrt(positions.shape[1] - 1)
                return Source(path, weights, COLUMN_TITLES[column],
                              {'backbone': (side, side)})
    return Source(path, weights, '', grids)


def noted_grids(checkpoint: dict) -> Iterator[Tuple[str, Grid]]:
    """Patch grids that a checkpoint states: in its config, or with its weights."""
    config = _inside(checkpoint, 'meta').get('cfg')
    if isinstance(config, str):
        config = literal_config(config)
    backbone = _inside(config, 'model', 'backbone')
    if backbone:
        size, patch = backbone.get('img_size', 224), backbone.get('patch_size', 16)
        size = [size, size] if isinstance(size, int) else size
        if isinstance(patch, int) and isinstance(size, (list, tuple)) and all(
                isinstance(side, int) for side in size):
            yield 'backbone', tuple(side // patch for side in size)
    noted = getattr(checkpoint, '_metadata', None) or getattr(
        checkpoint.get('state_dict'), '_metadata', None) or {}
    for name, values in noted.items():
        for wrapper in WRAPPERS:
            name = name[len(wrapper):] if f'{name}.'.startswith(wrapper) else name
        if isinstance(values, dict) and values.get('grid'):
            yield name, tuple(values['grid'])


def _inside(value: Any, *keys: str) -> dict:
    """The dict under keys of nested dicts; empty if there is not one."""
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}
