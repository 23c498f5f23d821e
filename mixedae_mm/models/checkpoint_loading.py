"""Pre-trained weights into a model: the one loader, which says what it did.

mmengine loads every checkpoint with ``strict=False`` and only logs what did not
fit. Here the weights of a part are loaded completely or refused. All ways lead
here: ``init_cfg`` of type ``Pretrained`` of anything that contains a part of
MixedAE, ``load_from`` and the test command (by ``CheckedLoadingHook``), and the
analysis tools. What goes past (mmengine's functions, PyTorch's
``load_state_dict``) meets the same checks in :class:`LoadedWhole`.
"""
import re
from collections import OrderedDict
from math import isqrt
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmpretrain.models import MAEViT, VisionTransformer
from torch import Tensor, nn

from ..utils.errors import ConfigurationError
from .checkpoint_fitting import LANDMARK, Fitted, Grid, fit, refuse
from .checkpoint_names import (COLUMN_TITLES, MAIN_VIT, WRAPPERS, to_mm_names,
                               vit_prefixes)
from .checkpoint_reading import literal_config, read_checkpoint, weights_of

# Where a whole model has its parts, by what tells the part: its first tensor.
USUAL_PREFIXES = ('backbone.', 'neck.', 'head.')


class Source(NamedTuple):
    """Weights, and what is known of them.

    Attributes:
        path (str): Of their file, for messages.
        weights (dict[str, Tensor]): By mmpretrain's names.
        converted (str): Whose names the file has, if others.
        grids (dict[str, tuple[int, int]]): Rows and columns of patches, by the
            prefix of the part that has positions, without its dot.
    """
    path: str
    weights: Dict[str, Tensor]
    converted: str = ''
    grids: Dict[str, Grid] = {}


class LoadReport(NamedTuple):
    """What became of each tensor.

    Attributes:
        what (str): What was loaded: ``'backbone'`` or another part.
        num_loaded (int): Its tensors taken from the checkpoint.
        num_total (int): Its tensors.
        resized (list[str]): What was made for another grid, with both grids.
        new (list[str]): Parts of the model that the checkpoint lacks.
        ignored (list[str]): Parts of the checkpoint without use here.
        converted (str): Whose names the checkpoint has, if not mmpretrain's.
    """
    what: str
    num_loaded: int
    num_total: int
    resized: List[str]
    new: List[str]
    ignored: List[str]
    converted: str = ''

    def __str__(self) -> str:
        parts = [
            f'loaded {self.num_loaded} of {self.num_total} {self.what} tensors'
        ]
        if self.converted:
            parts[0] += f' from the names of {self.converted}'
        if self.resized:
            parts.append('resized ' + ', '.join(self.resized))
        if self.new:
            parts.append('new, not in the checkpoint: ' + ', '.join(self.new))
        if self.ignored:
            parts.append('ignored: ' + ', '.join(self.ignored))
        return '; '.join(parts)


class LoadedWhole(nn.Module):
    """A part of a model that no loading, strict or not, may leave half loaded."""

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self._register_state_dict_hook(_note_grid)

    def _load_from_state_dict(self, state_dict, prefix, local_metadata, *args):
        weights = {
            name[len(prefix):]: value
            for name, value in state_dict.items() if name.startswith(prefix)
        }
        sharded = any('_fsdp_wrapped_module' in name
                      for name, _ in self.named_parameters())
        # A backbone is what pre-training is for; a neck or head may be new.
        if not sharded and (weights or isinstance(self, VisionTransformer)):
            resized = fit(self, weights, f'The checkpoint under "{prefix}"',
                          local_metadata.get('grid')).resized
            if resized:
                print_log(f'Resized {", ".join(resized)}', logger='current')
            for name in [n for n in state_dict if n.startswith(prefix)]:
                del state_dict[name]
            state_dict.update(
                {prefix + name: value for name, value in weights.items()})
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _note_grid(module, state_dict, prefix, local_metadata) -> None:
    """Let positions say which grid they are of, where PyTorch notes versions."""
    grid = getattr(module, 'patch_resolution', getattr(module, 'grid', None))
    if grid is not None:
        local_metadata['grid'] = tuple(grid)


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class CheckedPretrainedInit(PretrainedInit):
    """``init_cfg`` of type ``Pretrained``, completely or not at all.

    Models without a part of MixedAE are loaded as mmengine does.

    Args:
        checkpoint (str): As in :func:`.checkpoint_reading.read_checkpoint`.
        prefix (str, optional): As in :func:`load_pretrained`.
        map_location (str): As in mmengine.
        grid (tuple[int, int], optional): As in :func:`load_pretrained`.
    """

    def __init__(self, checkpoint, prefix=None, map_location='cpu', grid=None):
        super().__init__(checkpoint, prefix, map_location)
        self.grid = grid

    def __call__(self, module: nn.Module) -> None:
        if not any(isinstance(part, LoadedWhole) for part in module.modules()):
            super().__call__(module)
            return
        load_pretrained(module, self.checkpoint, self.prefix, self.grid)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


def load_pretrained(module: nn.Module,
                    path: str,
                    prefix: Optional[str] = None,
                    grid: Optional[Grid] = None) -> LoadReport:
    """Load a part, or a whole model, and log in one line what happened.

    Args:
        module (nn.Module): A ``VisionTransformer`` of mmpretrain, a neck, a head
            or a whole model.
        path (str): As in :func:`.checkpoint_reading.read_checkpoint`. Names of
            timm, Meta's MAE and Hugging Face are converted.
        prefix (str, optional): What the names of the part's tensors
            begin with in the checkpoint, such as ``'backbone.'``. Defaults
            to wherever the checkpoint has one.
        grid (tuple[int, int], optional): Rows and columns of patches of the
            checkpoint's positions, where it does not say them.

    Returns:
        LoadReport: What was logged.

    Raises:
        ConfigurationError: If the file cannot be read, has no such part under
            the prefix, one of another architecture, or one that would leave
            weights uninitialised. The module is unchanged then.
    """
    source = read_source(path, prefix)
    if grid is not None:
        _check_grid(source, grid)
        source = source._replace(grids={name: tuple(grid) for name in ('', 'backbone')})
    if isinstance(module, (LoadedWhole, VisionTransformer)):
        return _load_part(module, source, prefix)
    return load_model(module, source, prefix)


def read_source(path: str, prefix: Optional[str] = None) -> Source:
    """Read the weights of a file, and bring them into mmpretrain's names.

    Args:
        path (str): As in :func:`.checkpoint_reading.read_checkpoint`.
        prefix (str, optional): Which of several ViTs to convert.

    Raises:
        ConfigurationError: If the file cannot be read as weights.
    """
    return source_of(read_checkpoint(path), path, prefix)


def source_of(checkpoint: dict, path: str, prefix: Optional[str] = None) -> Source:
    """As :func:`read_source`, of what a file was read into."""
    weights = weights_of(checkpoint, path)
    grids = dict(noted_grids(checkpoint, weights))
    if vit_prefixes(weights, 'mm'):
        return Source(path, weights, '', grids)
    for column in ('timm', 'hf'):
        found = vit_prefixes(weights, column)
        wanted = MAIN_VIT if prefix is None else (_dotted(prefix), '')
        for start in wanted if len(found) != 1 or prefix else found:
            if start in found:
                weights = to_mm_names(weights, column, start)
                # All these libraries train on squares; what is not is found out.
                positions = weights.get('backbone.pos_embed')
                side = 0 if positions is None else isqrt(positions.shape[1] - 1)
                return Source(path, weights, COLUMN_TITLES[column],
                              {'backbone': (side, side)})
    return Source(path, weights, '', grids)


def load_model(model: nn.Module,
               source: Source,
               prefix: Optional[str] = None,
               complete: bool = False) -> LoadReport:
    """Load a whole model; see :func:`load_pretrained` and :func:`fit_model`."""
    weights, report = fit_model(model, source, prefix, complete)
    model.load_state_dict(weights)
    print_log(f'{source.path}: {report}', logger='current')
    return report


def fit_model(model: nn.Module,
              source: Source,
              prefix: Optional[str] = None,
              complete: bool = False) -> Tuple[Dict[str, Tensor], LoadReport]:
    """Make the weights of a checkpoint a whole model's.

    The backbone must be there as a whole, and so must each part of MixedAE that is
    there. Other parts, such as a head for other classes, may be new.

    Args:
        model (nn.Module): With a ``backbone``.
        source (Source): Weights, by the model's names or of the backbone alone.
        prefix (str, optional): What the names of the model's tensors begin with.
        complete (bool): Let no weight be new, as a test or a comparison needs.

    Returns:
        tuple[dict[str, Tensor], LoadReport]: All tensors of the model, what is
        new as the model has it; and what became of each.

    Raises:
        ConfigurationError: If weights are left over or missing that must not be.
    """
    wrapper = _dotted(prefix) if prefix else _wrapper(model, source.weights)
    weights, grids = _below(source.weights, wrapper), _below(source.grids, wrapper)
    if LANDMARK in weights:  # the backbone alone was saved
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    weights = dict(weights)
    target = model.state_dict()
    resized, new, ignored = [], [], []
    parts = [(f'{name}.', part) for name, part in model.named_modules()
             if isinstance(part, LoadedWhole)
             or type(part) in (VisionTransformer, MAEViT)]
    for start, part in parts:
        own = _below(weights, start)
        if not own and not isinstance(part, VisionTransformer):
            continue  # wholly new, as the loop below says
        grid = grids.get(start[:-1], source.grids.get('backbone'))
        fitted = fit(part, own, source.path, grid)
        for name in [name for name in weights if name.startswith(start)]:
            del weights[name]
        weights.update({start + name: value for name, value in own.items()})
        resized += fitted.resized
        new += [start + name for name in fitted.new]
        ignored += [start + name for name in fitted.ignored]
    taken = {name for name in target if name in weights and name not in new}
    for name, value in target.items():
        if name in taken and value.shape != weights[name].shape and not _resizes(
                model, name):
            taken.remove(name)
            new.append(name)
            ignored.append(f'{name} {tuple(weights.pop(name).shape)} instead of '
                           f'{tuple(value.shape)}')
        elif name not in weights and name not in new and value.is_floating_point():
            new.append(name)
    trained = {name for name, _ in model.named_parameters()}
    allowed = [name for start, part in parts for name in new if name.startswith(start)]
    must = [name for name in new if name in trained and name not in weights and (
        complete or (name.startswith('backbone.') and name not in allowed))]
    refuse(must, f'{source.path} would leave weights of this '
            f'{type(model).__name__} uninitialised' + _other_names(source))
    if not taken:
        raise ConfigurationError(
            f'{source.path} holds nothing of this {type(model).__name__}'
            f'{_other_names(source)}.')
    left = [name for name in weights if name not in target and name not in ignored]
    left += [name for name in source.weights if not name.startswith(wrapper)]
    report = LoadReport(
        'model', len(taken), len(target), resized, _parts(new),
        _parts(ignored) + sorted({name.partition('.')[0] for name in left}),
        source.converted)
    fitted = OrderedDict(
        (name, weights.get(name, value)) for name, value in target.items())
    fitted._metadata = target._metadata  # the grids, now of the model
    return fitted, report


def _load_part(part: nn.Module, source: Source, prefix: Optional[str]) -> LoadReport:
    what = 'backbone' if isinstance(part, VisionTransformer) else type(part).__name__
    start = _find_prefix(part, source, prefix)
    weights = _below(source.weights, start)
    beside = {name.split('.')[0] for name in source.weights
              if not name.startswith(start)}
    grid = source.grids.get(start[:-1], source.grids.get('backbone'))
    fitted: Fitted = fit(part, weights, source.path, grid, ask=True)
    target = part.state_dict()
    complete = OrderedDict(
        (name, weights.get(name, value)) for name, value in target.items())
    complete._metadata = target._metadata
    part.load_state_dict(complete)
    report = LoadReport(
        what, len(target) - len(fitted.new), len(target), fitted.resized,
        _parts(fitted.new), _parts(fitted.ignored) + sorted(beside),
        source.converted)
    print_log(f'{source.path}: {report}', logger='current')
    return report


def _find_prefix(part: nn.Module, source: Source, prefix: Optional[str]) -> str:
    """What a part's names begin with in a checkpoint."""
    is_vit = isinstance(part, VisionTransformer)
    what = 'ViT' if is_vit else type(part).__name__
    found: List[str] = []
    for mark in [LANDMARK] if is_vit else part.state_dict():
        found = found or [
            name[:-len(mark)] for name in source.weights
            if name == mark or name.endswith(f'.{mark}')
        ]
    if not found:
        raise ConfigurationError(
            f'{source.path} has no {what} in the names of mmpretrain'
            f'{_other_names(source)}.')
    if prefix is not None:
        prefix = _dotted(prefix)
        # The part alone was saved, or converted: there is nothing to choose.
        if (found == [''] and prefix in USUAL_PREFIXES) or (
                source.converted and prefix not in found):
            return found[0]
        if prefix not in found:
            raise ConfigurationError(
                f"{source.path} has no {what} under prefix '{prefix}', but under "
                f'{found}.')
        return prefix
    usual = [start for start in USUAL_PREFIXES if start in found]
    if len(found) > 1 and not usual:
        raise ConfigurationError(
            f'{source.path} has several ViTs; choose one by prefix= of {found}.')
    return found[0] if len(found) == 1 else usual[0]


def _check_grid(source: Source, grid: Grid) -> None:
    """Refuse a given grid of another number of patches than there are positions."""
    given = grid[0] * grid[1]
    lengths = {value.shape[1] for name, value in source.weights.items()
               if re.search(r'(^|\.)pos_embed$', name)}
    if lengths and not lengths & {given, given + 1}:  # with CLS
        raise ConfigurationError(
            f'grid={tuple(grid)} are {given} patches, but {source.path} has '
            f'{" or ".join(map(str, sorted(lengths)))} positions (CLS included).')


def _wrapper(model: nn.Module, weights: Dict[str, Tensor]) -> str:
    """What others put before all names of a model: ``model.`` of Lightning,
    ``module.`` of an average with its step count; empty if nothing."""
    found = vit_prefixes(weights, 'mm')
    own = vit_prefixes(model.state_dict(), 'mm')
    if len(found) == 1 and found[0].endswith('.backbone.') and found != own:
        return found[0][:-len('backbone.')]
    return ''


def _other_names(source: Source) -> str:
    """What to do about a ViT in a file that cannot be chosen or converted."""
    for column, title in COLUMN_TITLES.items():
        found = vit_prefixes(source.weights, column)
        if column != 'mm' and found and not source.converted:
            return (f', but ViTs in those of {title} under {found}; choose one by '
                    'prefix=')
    return ''


def noted_grids(checkpoint: dict,
                 weights: Dict[str, Tensor]) -> Iterator[Tuple[str, Grid]]:
    """Patch grids that a checkpoint states: in its config, or with its weights."""
    meta = checkpoint.get('meta')
    config = meta.get('cfg') if isinstance(meta, dict) else None
    if isinstance(config, str):
        config = literal_config(config)
    model = config.get('model') if isinstance(config, dict) else None
    backbone = model.get('backbone') if isinstance(model, dict) else None
    if isinstance(backbone, dict):
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


def _resizes(model: nn.Module, name: str) -> bool:
    """Whether the module that a tensor belongs to fits other shapes by itself."""
    owner = model.get_submodule(name.rpartition('.')[0])
    return bool(owner._load_state_dict_pre_hooks)


def _below(weights: Dict[str, Tensor], prefix: str) -> Dict[str, Tensor]:
    return {name[len(prefix):]: value for name, value in weights.items()
            if name.startswith(prefix)}


def _dotted(prefix: str) -> str:
    return prefix if prefix.endswith('.') or not prefix else f'{prefix}.'


def _parts(names: Sequence[str]) -> List[str]:
    """Short names: modules without their ``.weight`` and ``.bias``, once."""
    short = [re.sub(r'\.(weight|bias)$', '', name) for name in names]
    short = [re.sub(r'(^|\.)layers\.\d+', r'\1layers.*', name) for name in short]
    return list(dict.fromkeys(short))
