"""Weights of one part of a model, made to fit it or refused."""
import re
from typing import TYPE_CHECKING, Any, Dict, List, NamedTuple, Optional

import torch
from mmengine.logging import print_log
from mmpretrain.models import MAEPretrainDecoder, VisionTransformer
from torch import Tensor, nn

from ..utils.errors import ConfigurationError
from ..utils.messages import listed
from .checkpoint_names import COLUMN_TITLES, LANDMARKS, beit_as_vit, below, vit_prefixes
from .checkpoint_shapes import Grid, fit_decoder_grid, fit_grids
from .layers.relative_position_bias import TABLE

# What a checkpoint may lack: norms that only some heads need, biases that start at
# zero, the segments that only pre-training has.
MAY_BE_NEW = re.compile(rf'ln[12]\.|segment_embed$|.*{TABLE}$')
# What a checkpoint may have that the backbone was built without.
MAY_BE_IGNORED = re.compile(
    r'ln[12]\.|(cls_token|segment_embed|mask_token|masked_embed)$|'
    r'.*relative_position_index$')
# What a backbone must be built with to have a place for them, by the tensors' names.
OPTIONS = {'attn.gamma1': 'layer_scale_init_value=0.1',
           TABLE: 'relative_position_bias=True'}
LANDMARK = LANDMARKS['mm']


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
            resized = fit(self, state_dict, f'The checkpoint under "{prefix}"',
                          local_metadata.get('grid'), prefix).resized
            if resized:
                print_log(f'Resized {", ".join(resized)}', logger='current')
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *args)


def _note_grid(module, state_dict, prefix, local_metadata) -> None:
    """Note the patch grid of positions where PyTorch notes the version of a module."""
    grid = getattr(module, 'patch_resolution', getattr(module, 'grid', None))
    if grid is not None:
        local_metadata['grid'] = tuple(grid)


class Fitted(NamedTuple):
    """What became of the weights of one part."""
    resized: List[str]  # for another grid, with both grids
    new: List[str]  # tensors of the part that the weights lack
    ignored: List[str]  # weights without use here


def fit(part: nn.Module,
        weights: Dict[str, Tensor],
        source: str,
        grid: Optional[Grid] = None,
        prefix: str = '') -> Fitted:
    """Make weights fit a part of a model, in place; it takes all of them or none.

    A part other than a backbone may be wholly new: a backbone is what pre-training
    is for.

    Args:
        part (nn.Module): A ``VisionTransformer`` or ``MAEPretrainDecoder`` of
            mmpretrain, which may need other positions, or any other module.
        weights (dict[str, Tensor]): Those of the part have ``prefix`` in front.
        source (str): Where they come from, for messages.
        grid (tuple[int, int], optional): Rows and columns of patches of the
            model that they come from, where it is known.
        prefix (str): In front of all names in what is returned, too.

    Raises:
        ConfigurationError: If they are of another architecture, would leave weights
            of the part uninitialised, or have positions of an unknown grid.
    """
    own = below(weights, prefix)
    is_vit = isinstance(part, VisionTransformer)
    if not own and not is_vit:
        return Fitted([], [], [])
    for name in own:
        del weights[prefix + name]
    target, what = part.state_dict(), type(part).__name__
    if is_vit:
        what = 'backbone'
        _check_architecture(own, target, source)
        own = beit_as_vit(own)
    unused = [name for name in own if name not in target]
    needed = [option for name, option in OPTIONS.items()
              if is_vit and name in ' '.join(unused)]
    refuse([name for name in unused if not (is_vit and MAY_BE_IGNORED.match(name))],
           f'{source} has weights that this {what} has no place for' +
           (f' (it needs {" and ".join(needed)})' if needed else ''))
    new = [name for name in target if name not in own]
    has_table = any(name.endswith(TABLE) for name in own)
    lost = [name for name in new if not is_vit or not (
        MAY_BE_NEW.match(name) or has_table and name == 'pos_embed')]
    refuse(lost, f'{source} would leave weights of this {what} uninitialised' +
           (' (a ViT without CLS token needs with_cls_token=False)'
            if is_vit and lost == ['cls_token'] else ''))
    resized: List[str] = []
    if isinstance(part, VisionTransformer):
        resized = fit_grids(part, own, source, grid)
    elif isinstance(part, MAEPretrainDecoder) and hasattr(part, 'grid'):
        resized = fit_decoder_grid(part, own)
    _refuse_shapes(own, target, source, what)
    if is_vit and 'pos_embed' in new:  # of a BEiT with relative positions only
        own['pos_embed'] = torch.zeros_like(target['pos_embed'])
    weights.update({prefix + name: value for name, value in own.items()})
    return Fitted(resized, [prefix + name for name in new],
                  [prefix + name for name in unused])


def _refuse_shapes(weights: Dict[str, Tensor], target: Dict[str, Tensor], source: str,
                   what: str) -> None:
    refuse([f'{name} {tuple(weights[name].shape)} for {tuple(value.shape)}'
            for name, value in target.items()
            if name in weights and weights[name].shape != value.shape],
           f'{source} has weights of other shapes than this {what}')


def _check_architecture(weights: Dict[str, Tensor], target: Dict[str, Tensor],
                        source: str) -> None:
    """Refuse weights of another ViT, or of none in mmpretrain's names."""
    if LANDMARK not in weights:
        foreign = [f', but one in those of {title}'
                   for column, title in COLUMN_TITLES.items()
                   if column != 'mm' and vit_prefixes(weights, column)]
        raise ConfigurationError(
            f'{source} has no ViT in the names of mmpretrain{"".join(foreign[:1])}; '
            "names of timm, Meta's MAE and Hugging Face are converted by "
            "tools/train.py, by init_cfg of type 'Pretrained' of the backbone, and by "
            'python tools/converters/convert.py FILE OUT --to mm.')
    if weights[LANDMARK].dim() != 4:
        _refuse_shapes({LANDMARK: weights[LANDMARK]}, target, source, 'backbone')
    given, wanted = _architecture(weights), _architecture(target)
    differences = [f'{name} {given[name]} instead of {wanted[name]}'
                   for name in wanted if given[name] != wanted[name]]
    if differences:
        hint = ("; input_channels='mean', at the top of the config, makes weights for "
                'the other channels of it.')
        raise ConfigurationError(
            f'{source} holds another ViT than this backbone: {", ".join(differences)}'
            + (hint if differences[0].startswith('input') else '.'))


def _architecture(weights: Dict[str, Tensor]) -> Dict[str, int]:
    width, channels, height, _ = weights[LANDMARK].shape
    layers = {name.split('.')[1] for name in weights if name.startswith('layers.')}
    return {'patch size': height, 'width': width, 'layers': len(layers),
            'input channels': channels}


def refuse(names: List[str], what: str) -> None:
    """Raise a ConfigurationError that names tensors, if there are any."""
    if names:
        raise ConfigurationError(f'{what}: {listed(names)}.')
