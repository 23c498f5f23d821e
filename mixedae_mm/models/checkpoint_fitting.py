"""Weights of one part of a model, made to fit it or refused."""
import re
from typing import Dict, List, NamedTuple, Optional

import torch
from mmpretrain.models import MAEPretrainDecoder, VisionTransformer
from torch import Tensor, nn

from ..utils.errors import ConfigurationError
from .checkpoint_grids import Grid, fit_decoder_grid, fit_grids
from .checkpoint_names import COLUMN_TITLES, LANDMARKS, vit_prefixes
from .layers.relative_position_bias import TABLE

# What a checkpoint may lack: norms that only some heads need, biases that start at
# zero, the segments that only pre-training has.
MAY_BE_NEW = re.compile(rf'ln[12]\.|segment_embed$|.*{TABLE}$')
# What a checkpoint may have that the backbone was built without.
MAY_BE_IGNORED = re.compile(
    r'ln[12]\.|(cls_token|segment_embed|mask_token|masked_embed)$|'
    r'.*relative_position_index$')
LANDMARK = LANDMARKS['mm']


class Fitted(NamedTuple):
    """What became of the weights of one part.

    Attributes:
        resized (list[str]): What was made anew for another grid, with both grids.
        new (list[str]): Tensors of the part that the weights lack.
        ignored (list[str]): Weights without use here.
    """
    resized: List[str]
    new: List[str]
    ignored: List[str]


def below(weights: Dict[str, Tensor], prefix: str) -> Dict[str, Tensor]:
    """The weights whose names begin with a prefix, without the prefix."""
    return {name[len(prefix):]: value for name, value in weights.items()
            if name.startswith(prefix)}


def fit_below(part: nn.Module,
              weights: Dict[str, Tensor],
              prefix: str,
              source: str,
              grid: Optional[Grid] = None) -> Fitted:
    """Make the weights below a prefix fit a part of a model, as :func:`fit`.

    A part other than a backbone may be wholly new: a backbone is what pre-training
    is for.

    Args:
        part (nn.Module): As in :func:`fit`.
        weights (dict[str, Tensor]): Of the whole model; changed in place.
        prefix (str): What the names of the part's tensors begin with.
        source (str): As in :func:`fit`.
        grid (tuple[int, int], optional): As in :func:`fit`.

    Returns:
        Fitted: With the prefix before all names of ``new`` and ``ignored``.

    Raises:
        ConfigurationError: As in :func:`fit`.
    """
    own = below(weights, prefix)
    if not own and not isinstance(part, VisionTransformer):
        return Fitted([], [], [])
    names = [prefix + name for name in own]
    fitted = fit(part, own, source, grid)
    for name in names:
        del weights[name]
    weights.update({prefix + name: value for name, value in own.items()})
    return fitted._replace(new=[prefix + name for name in fitted.new],
                           ignored=[prefix + name for name in fitted.ignored])


def fit(part: nn.Module,
        weights: Dict[str, Tensor],
        source: str,
        grid: Optional[Grid] = None,
        ask: bool = False) -> Fitted:
    """Make weights fit a part of a model, which takes all of them or none.

    Args:
        part (nn.Module): A ``VisionTransformer`` or ``MAEPretrainDecoder`` of
            mmpretrain, which may need other positions, or any other module.
        weights (dict[str, Tensor]): In the part's names; changed in place.
        source (str): Where they come from, for messages.
        grid (tuple[int, int], optional): Rows and columns of patches of the
            model that they come from, where it is known.
        ask (bool): What to do where trained positions could be of several grids:
            refuse them, or (the default) take them as they are and say so.

    Raises:
        ConfigurationError: If they are of another architecture, or would leave
            weights of the part uninitialised.
    """
    if isinstance(part, VisionTransformer):
        return _fit_vit(part, weights, source, grid, ask)
    target, what = part.state_dict(), type(part).__name__
    resized: List[str] = []
    if isinstance(part, MAEPretrainDecoder) and hasattr(part, 'grid'):
        resized = fit_decoder_grid(part, weights)
    refuse([name for name in weights if name not in target],
           f'{source} has weights that this {what} has no place for')
    refuse([name for name in target if name not in weights],
           f'{source} would leave weights of {what} uninitialised')
    _refuse_shapes(weights, target, source, what)
    return Fitted(resized, [], [])


def _fit_vit(vit: VisionTransformer, weights: Dict[str, Tensor], source: str,
             grid: Optional[Grid], ask: bool) -> Fitted:
    target = vit.state_dict()
    _check_architecture(weights, target, source)
    is_beit = 'layers.0.gamma_1' in weights
    if is_beit:
        _rename_beit(weights)
    unused = [name for name in weights if name not in target]
    missing = [name for name in target if name not in weights]
    refuse([name for name in unused if not MAY_BE_IGNORED.match(name)],
           f'{source} has weights that this backbone has no place for' +
           (' (BEiT needs layer_scale_init_value=0.1 and '
            'relative_position_bias=True)' if is_beit else ''))
    lost = [
        name for name in missing if not MAY_BE_NEW.match(name)
        and not (is_beit and name == 'pos_embed')
    ]
    refuse(lost, f'{source} would leave backbone weights uninitialised' +
           (' (a ViT without CLS token needs with_cls_token=False)'
            if lost == ['cls_token'] else ''))
    resized = fit_grids(vit, weights, source, grid, ask)
    _refuse_shapes(weights, target, source, 'backbone')
    if 'pos_embed' in missing:  # BEiT has relative positions only
        weights['pos_embed'] = torch.zeros_like(target['pos_embed'])
    return Fitted(resized, missing, unused)


def _check_architecture(weights: Dict[str, Tensor], target: Dict[str, Tensor],
                        source: str) -> None:
    """Refuse weights of another ViT, or of none in mmpretrain's names."""
    if not weights:
        raise ConfigurationError(
            f'{source} has nothing of this backbone. Names of timm, Meta\'s MAE and '
            'Hugging Face are converted by tools/train.py, by init_cfg of type '
            "'Pretrained' of the backbone, and by python "
            'tools/converters/convert.py FILE OUT --to mm.')
    if LANDMARK not in weights:
        foreign = [title for column, title in COLUMN_TITLES.items()
                   if column != 'mm' and vit_prefixes(weights, column)]
        raise ConfigurationError(
            f'{source} has no ViT in the names of mmpretrain' +
            (f', but one in those of {foreign[0]}; convert the file with python '
             'tools/converters/convert.py FILE OUT --to mm' if foreign else '') +
            '.')
    if weights[LANDMARK].dim() != 4:
        _refuse_shapes(weights, target, source, 'backbone')
    given, wanted = _architecture(weights), _architecture(target)
    differences = [
        f'{name} {given[name]} instead of {wanted[name]}' for name in wanted
        if given[name] != wanted[name]
    ]
    if differences:
        raise ConfigurationError(
            f'{source} holds another ViT than this backbone: '
            f'{", ".join(differences)}.')


def _architecture(weights: Dict[str, Tensor]) -> Dict[str, int]:
    width, channels, height, _ = weights[LANDMARK].shape
    layers = {
        int(match[1])
        for match in (re.match(r'layers\.(\d+)\.', name) for name in weights)
        if match
    }
    return {
        'patch size': height,
        'width': width,
        'layers': len(layers),
        'input channels': channels
    }


def _rename_beit(weights: Dict[str, Tensor]) -> None:
    """Name weights of mmpretrain's ``BEiTViT`` as those of a ViT.

    It is a ViT with layer scale and bias tables.
    """
    num_layers = _architecture(weights)['layers']
    for name in list(weights):
        value = weights.pop(name)
        name = re.sub(r'gamma_1$', 'attn.gamma1.weight', name)
        name = re.sub(r'gamma_2$', 'ffn.gamma2.weight', name)
        name = re.sub(rf'attn\.{TABLE}$', f'attn.rel_pos_bias.{TABLE}', name)
        weights[name] = value
    shared_table = weights.pop(f'rel_pos_bias.{TABLE}', None)
    for i in range(num_layers):
        attention = f'layers.{i}.attn'
        if f'{attention}.q_bias' in weights:  # BEiT's keys have no bias
            query = weights.pop(f'{attention}.q_bias')
            value = weights.pop(f'{attention}.v_bias')
            weights[f'{attention}.qkv.bias'] = torch.cat(
                [query, torch.zeros_like(query), value])
        if shared_table is not None:  # layers share it in pre-training only
            weights[f'{attention}.rel_pos_bias.{TABLE}'] = shared_table


def _refuse_shapes(weights: Dict[str, Tensor], target: Dict[str, Tensor], source: str,
                   what: str) -> None:
    refuse([
        f'{name} {tuple(weights[name].shape)} for {tuple(value.shape)}'
        for name, value in target.items()
        if name in weights and weights[name].shape != value.shape
    ], f'{source} has weights of other shapes than this {what}')


def refuse(names: List[str], what: str) -> None:
    """Raise a ConfigurationError that names tensors, if there are any."""
    if names:
        more = f' and {len(names) - 8} more' if len(names) > 8 else ''
        raise ConfigurationError(f'{what}: {", ".join(names[:8])}{more}.')
