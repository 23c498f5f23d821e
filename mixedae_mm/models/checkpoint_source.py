"""What a checkpoint offers to a model: weights by mmpretrain's names, and grids."""
from typing import Any, Dict, Iterator, NamedTuple, Optional, Tuple

from torch import Tensor

from .checkpoint_configs import config_beside, hf_facts, timm_facts
from .checkpoint_names import (COLUMN_TITLES, LANDMARKS, MAIN_ENCODER, WRAPPERS,
                               below, main_prefix, to_mm_names, vit_prefixes)
from .checkpoint_reading import (read_checkpoint, saved_config, state_dict_of,
                                 weights_of)
from .checkpoint_shapes import Grid


class Source(NamedTuple):
    """Weights, and what is known of them."""
    path: str  # of their file, folder or address
    column: str  # whose names the file has: 'mm', 'timm', 'hf'
    tensors: Dict[str, Tensor]  # by those names
    weights: Dict[str, Tensor]  # by mmpretrain's names
    grids: Dict[str, Grid]  # of parts that have positions: by prefix without its dot
    config: dict = {}  # the config.json of timm or Hugging Face
    facts: dict = {}  # what it says, see mixedae_mm.interop.reading.describe

    @property
    def converted(self) -> str:
        """The library whose names the file has; empty for mmpretrain's."""
        return '' if self.column == 'mm' else COLUMN_TITLES[self.column]

    def grid_of(self, prefix: str) -> Optional[Grid]:
        """The patch grid of a part, or that of the backbone; None if not known."""
        names = (prefix[:-1], 'backbone', '')
        return next((self.grids[name] for name in names if name in self.grids), None)

    def other_names(self) -> str:
        """End of a sentence: ViTs in the file that were not chosen or converted."""
        for column in ('timm', 'hf'):
            found = vit_prefixes(self.weights, column)
            if found and not self.converted:
                return (f', but ViTs in those of {COLUMN_TITLES[column]} under '
                        f'{found}; choose one by prefix=')
        return ''


def with_dot(prefix: str) -> str:
    """A prefix as names have it: ``'backbone.'`` also for ``'backbone'``."""
    return prefix if prefix.endswith('.') or not prefix else f'{prefix}.'


def read_source(path: str, prefix: Optional[str] = None) -> Source:
    """Read weights (``read_checkpoint``), and give them mmpretrain's names.

    ``prefix`` says which of several ViTs to convert.
    """
    return source_of(read_checkpoint(path), path, prefix)


def source_of(checkpoint: dict, path: str, prefix: Optional[str] = None) -> Source:
    """As :func:`read_source`, for a file that was read already."""
    tensors = weights_of(checkpoint, path)
    grids = dict(_noted_grids(checkpoint))
    for column in ('timm', 'hf'):
        found = vit_prefixes(tensors, column)
        start = main_prefix(found, MAIN_ENCODER if prefix is None else ('', ))
        if prefix:
            wanted = (with_dot(prefix), '')
            start = next((start for start in wanted if start in found), None)
        if start is None or vit_prefixes(tensors, 'mm'):
            continue
        weights = to_mm_names(tensors, column, start)
        config = config_beside(path, column, weights)
        facts = (timm_facts if column == 'timm' else hf_facts)(config, path)
        if facts.get('img_size') and not grids:
            patch = weights[f'backbone.{LANDMARKS["mm"]}'].shape[-1]
            height, width = facts['img_size']
            grids['backbone'] = height // patch, width // patch
        if column == 'timm':
            tensors = below(tensors, start)
        return Source(path, column, tensors, weights, grids, config, facts)
    return Source(path, 'mm', tensors, tensors, grids)


def _noted_grids(checkpoint: dict) -> Iterator[Tuple[str, Grid]]:
    """Patch grids that a checkpoint states: in its config, or with its weights."""
    config: Any = saved_config(checkpoint)
    for key in ('model', 'backbone'):
        config = config.get(key) if isinstance(config, dict) else None
    if isinstance(config, dict):
        size, patch = config.get('img_size', 224), config.get('patch_size', 16)
        size = [size, size] if isinstance(size, int) else size
        if isinstance(patch, int) and patch > 0 and isinstance(
                size, (list, tuple)) and all(isinstance(side, int) for side in size):
            yield 'backbone', tuple(-(-side // patch) for side in size)  # padded
    for name, values in getattr(state_dict_of(checkpoint), '_metadata', {}).items():
        for wrapper in WRAPPERS:
            name = name[len(wrapper):] if f'{name}.'.startswith(wrapper) else name
        if isinstance(values, dict) and values.get('grid'):
            yield name, tuple(values['grid'])
