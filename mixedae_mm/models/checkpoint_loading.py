"""Load pre-trained weights into a model, completely or not at all, and log it.

mmengine loads every checkpoint with ``strict=False`` and only logs what did not
fit. Here the weights of a part are loaded completely or refused. Loaded in this way
are ``init_cfg`` of type ``Pretrained`` of whatever contains a part of MixedAE,
``load_from`` and the test command (by ``CheckedLoadingHook``), and the analysis
tools. Other ways are checked by :class:`.checkpoint_fitting.LoadedWhole`.
"""
import re
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmpretrain.models import MAEViT, VisionTransformer
from torch import Tensor, nn

from ..utils.checks import check_choice
from ..utils.errors import ConfigurationError
from .checkpoint_fitting import LANDMARK, LoadedWhole, fit, refuse
from .checkpoint_names import MAIN_ENCODER, below, main_prefix, prefixes_before
from .checkpoint_reading import read_weights
from .checkpoint_shapes import Grid, with_channels
from .checkpoint_source import Source, read_source, with_dot

# What a whole model puts before the names of its parts.
USUAL_PREFIXES = ('backbone.', 'neck.', 'head.')


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class CheckedPretrainedInit(PretrainedInit):
    """``init_cfg`` of type ``Pretrained``: loads completely or not at all.

    Models without a part of MixedAE are loaded as mmengine does, except a plain ViT
    of mmpretrain from a file of MixedAE's pre-training, and with ``complete``.

    Args:
        checkpoint (str), prefix (str, optional), map_location (str): As in mmengine.
        grid (tuple[int, int], optional), input_channels (str, optional): As in
            :func:`load_pretrained`.
        complete (bool): Load any model, such as a ResNet, completely or refuse it.

    Raises:
        ConfigurationError: For another ``input_channels``; when it loads, as
            :func:`load_pretrained`.
    """

    def __init__(self, checkpoint, prefix=None, map_location='cpu', grid=None,
                 input_channels=None, complete=False):
        super().__init__(checkpoint, prefix, map_location)
        self.grid = grid
        check_input_channels(input_channels)
        self.input_channels = input_channels
        self.complete = complete

    def __call__(self, module: nn.Module) -> None:
        is_ours = any(isinstance(part, LoadedWhole) for part in module.modules())
        if not (self.complete or is_ours or self.input_channels is not None or
                isinstance(module, VisionTransformer) and self._is_of_pretraining()):
            super().__call__(module)
            return
        load_pretrained(module, self.checkpoint, self.prefix, self.grid,
                        self.input_channels, self.complete)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

    def _is_of_pretraining(self) -> bool:
        """Whether this is a local file with MixedAE's segment embedding."""
        if not Path(str(self.checkpoint)).expanduser().is_file():
            return False
        try:
            names = read_weights(self.checkpoint)
        except ConfigurationError:  # for mmengine to say, as for any model
            return False
        return any(name.endswith('segment_embed') for name in names)


def check_input_channels(value: Optional[str]) -> None:
    """Refuse what the option cannot be."""
    if value is not None:
        check_choice('input_channels', value, ('mean', ))


class LoadReport(NamedTuple):
    """What became of each tensor of a checkpoint, for one line of the log."""
    what: str  # was loaded: 'model', 'backbone' or another part
    num_loaded: int  # of its tensors
    num_total: int
    resized: List[str]  # for another grid or other channels, with both
    new: List[str]  # parts of the model that the checkpoint lacks
    ignored: List[str]  # parts of the checkpoint without use here
    converted: str = ''  # whose names the checkpoint has, if not mmpretrain's

    def __str__(self) -> str:
        text = f'loaded {self.num_loaded} of {self.num_total} {self.what} tensors'
        if self.converted:
            text += f' from the names of {self.converted}'
        for what, names in (('resized ', self.resized),
                            ('new, not in the checkpoint: ', self.new),
                            ('ignored: ', self.ignored)):
            if names:
                text += f'; {what}{", ".join(names)}'
        return text


def short_names(names: Sequence[str]) -> List[str]:
    """Shorten names of tensors, and name each only once; a neck is one.

    >>> short_names(['layers.0.ln1.weight', 'layers.1.ln1.bias', 'neck.ln1.bias'])
    ['layers.*.ln1', 'neck.*']
    """
    short = [re.sub(r'^neck\..*', 'neck.*', name) for name in names]
    short = [re.sub(r'\.(weight|bias)$', '', name) for name in short]
    return list(dict.fromkeys(re.sub(r'\.\d+\.', '.*.', name) for name in short))


def load_pretrained(module: nn.Module,
                    path: str,
                    prefix: Optional[str] = None,
                    grid: Optional[Grid] = None,
                    input_channels: Optional[str] = None,
                    complete: bool = False) -> LoadReport:
    """Load a part or a whole model, and log in one line what happened.

    The backbone must be there as a whole, and so must each part of MixedAE that is
    there. Other parts, such as a head for other classes, may be new.

    Args:
        module (nn.Module): A ``VisionTransformer`` of mmpretrain, a neck, a head
            or a whole model.
        path (str): As in :func:`.checkpoint_reading.read_checkpoint`. Names of
            timm, Meta's MAE and Hugging Face are converted.
        prefix (str, optional): What the names of the part's tensors
            begin with in the checkpoint, such as ``'backbone.'``. By default
            the part is searched for.
        grid (tuple[int, int], optional): Rows and columns of patches of the
            checkpoint's positions, for a checkpoint that does not tell them.
        input_channels (str, optional): ``'mean'`` makes weights for other channels
            of them (:func:`.checkpoint_shapes.with_channels`), None refuses them.
        complete (bool): Refuse new weights, as a test or a comparison needs.

    Returns:
        LoadReport: What was logged.

    Raises:
        ConfigurationError: If the file cannot be read, has no such part under
            the prefix, one of another architecture, or one that would leave
            weights uninitialised. The module is unchanged then.
    """
    source = read_source(path, prefix)
    if grid is not None:
        rows, columns = grid
        lengths = {value.shape[1] for name, value in source.weights.items()
                   if name.rpartition('.')[2] == 'pos_embed'}
        if lengths and not lengths & {rows * columns, rows * columns + 1}:  # with CLS
            raise ConfigurationError(
                f'grid={tuple(grid)} are {rows * columns} patches, but {path} has '
                f'{" or ".join(map(str, sorted(lengths)))} positions (CLS included).')
        source = source._replace(
            grids={name: (rows, columns) for name in ('', 'backbone')})
    return load_source(module, source, prefix, complete, input_channels)


def load_source(module: nn.Module,
               source: Source,
               prefix: Optional[str] = None,
               complete: bool = False,
               input_channels: Optional[str] = None) -> LoadReport:
    """As :func:`load_pretrained`, from a file that was read already."""
    weights, report = fit_model(module, source, prefix, complete, input_channels)
    module.load_state_dict(weights)
    print_log(f'{source.path}: {report}', logger='current')
    return report


def fit_model(module: nn.Module,
              source: Source,
              prefix: Optional[str] = None,
              complete: bool = False,
              input_channels: Optional[str] = None
              ) -> Tuple[Dict[str, Tensor], LoadReport]:
    """As :func:`load_pretrained`, but only make the weights that would be loaded.

    Returns:
        tuple[dict[str, Tensor], LoadReport]: All tensors of the module, those that
        are new with the module's own values; and what became of each.
    """
    prefix = _find_prefix(module, source, prefix)
    weights = below(source.weights, prefix)
    if LANDMARK in weights and hasattr(module, 'backbone'):  # saved alone
        weights = {f'backbone.{name}': value for name, value in weights.items()}
    resized: List[str] = []
    if input_channels is not None:
        wanted = [value.shape[1] for name, value in module.state_dict().items()
                  if name.endswith(LANDMARK)]
        resized += with_channels(weights, wanted[0]) if len(wanted) == 1 else []
    new: List[str] = []
    ignored: List[str] = []
    # Parts that are loaded whole, by what their names begin with.
    parts = {f'{name}.' if name else '': part for name, part in module.named_modules()
             if isinstance(part, LoadedWhole) or part is module and _is_part(part)
             or type(part) in (VisionTransformer, MAEViT)}
    for start, part in parts.items():
        fitted = fit(part, weights, source.path, source.grid_of(prefix + start), start)
        resized += fitted.resized
        new += fitted.new
        ignored += fitted.ignored
    # In all other parts, what is missing or has another shape is new.
    target = module.state_dict()
    for name, value in target.items():
        if name in new:
            continue
        if name not in weights:
            if value.is_floating_point():
                new.append(name)
        elif value.shape != weights[name].shape and not _resizes(module, name):
            new.append(name)
            ignored.append(f'{name} {tuple(weights.pop(name).shape)} instead of '
                           f'{tuple(value.shape)}')
    taken = [name for name in target if name in weights and name not in new]
    left = [name for name in weights if name not in target and name not in ignored]
    left += [name for name in source.weights if not name.startswith(prefix)]
    must = [name for name in new if name not in weights and (complete or (
        name.startswith('backbone.') and not name.startswith(tuple(parts))))]
    trained = {name for name, _ in module.named_parameters()}
    trained.update(name for name in target if complete and 'running_' in name)
    refuse([name for name in must if name in trained],
           f'{source.path} would leave weights of this {type(module).__name__} '
           f'uninitialised{source.other_names()}')
    if not taken:
        raise ConfigurationError(
            f'{source.path} holds nothing of this {type(module).__name__}'
            f'{source.other_names()}.')
    for name in target:
        target[name] = weights.get(name, target[name])
    what = 'backbone' if isinstance(module, VisionTransformer) else (
        'model' if hasattr(module, 'backbone') else type(module).__name__)
    return target, LoadReport(
        what, len(taken), len(target), resized, short_names(new),
        short_names(ignored) + sorted({name.partition('.')[0] for name in left}),
        source.converted)


def _is_part(module: nn.Module) -> bool:
    return isinstance(module, (LoadedWhole, VisionTransformer))


def _find_prefix(module: nn.Module, source: Source, prefix: Optional[str]) -> str:
    """What the names of a part or a model begin with in a checkpoint."""
    is_vit, is_part = isinstance(module, VisionTransformer), _is_part(module)
    if prefix is not None:
        prefix = with_dot(prefix)
        if not is_part:
            return '' if source.converted else prefix
    # The first tensor of the part that is there tells where the part is.
    marks = [LANDMARK] if is_vit else list(module.state_dict())
    everywhere = (prefixes_before(source.weights, mark) for mark in marks)
    found = next(filter(None, everywhere), [])
    if not is_vit and len(found) > 1:  # `conv1.weight` is also in a ResNet's blocks
        names = [name for name, _ in module.named_parameters()]
        whole = [start for start in found
                 if all(start + name in source.weights for name in names)]
        found = whole or found
    what = 'ViT' if is_vit else type(module).__name__
    if not found and is_part:
        raise ConfigurationError(f'{source.path} has no {what} in the names of '
                                 f'mmpretrain{source.other_names()}.')
    if not found:
        return prefix or ''
    if prefix in found:
        return prefix
    if prefix is not None:
        # The part alone was saved, or converted: there is nothing to choose.
        if source.converted or (found == [''] and prefix in USUAL_PREFIXES):
            return found[0]
        raise ConfigurationError(f"{source.path} has no {what} under prefix "
                                 f"'{prefix}', but under {found}.")
    usual: Sequence[str] = MAIN_ENCODER
    if is_part:
        usual = USUAL_PREFIXES
    elif hasattr(module, 'backbone'):
        usual = ('', )
    start = main_prefix(found, usual)
    if start is None:
        raise ConfigurationError(
            f'{source.path} has several {what}s; choose one by prefix= of {found}.')
    return start


def _resizes(model: nn.Module, name: str) -> bool:
    """Whether the module that a tensor belongs to fits other shapes by itself."""
    owner = model.get_submodule(name.rpartition('.')[0])
    return bool(owner._load_state_dict_pre_hooks)
