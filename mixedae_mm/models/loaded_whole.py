"""Base class of the parts that no loading, strict or not, may leave half loaded."""
from typing import TYPE_CHECKING, Any

from mmengine.logging import print_log
from torch import nn

from .checkpoint_fitting import fit_below


class LoadedWhole(nn.Module):
    """A part of a model that takes all of its weights from a checkpoint, or none.

    Checks what goes past :mod:`.checkpoint_loading`: mmengine's functions, which
    load with ``strict=False``, and PyTorch's ``load_state_dict``.
    """

    if TYPE_CHECKING:
        # The toolboxes do not declare the attributes of their classes.
        def __getattr__(self, name: str) -> Any:
            ...

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._register_state_dict_hook(_note_grid)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        sharded = any('_fsdp_wrapped_module' in name
                      for name, _ in self.named_parameters())
        if not sharded:
            resized = fit_below(self, state_dict, prefix,
                                f'The checkpoint under "{prefix}"',
                                local_metadata.get('grid')).resized
            if resized:
                print_log(f'Resized {", ".join(resized)}', logger='current')
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _note_grid(module, state_dict, prefix, local_metadata) -> None:
    """Note the patch grid of positions where PyTorch notes the version of a module."""
    grid = getattr(module, 'patch_resolution', getattr(module, 'grid', None))
    if grid is not None:
        local_metadata['grid'] = tuple(grid)
