"""Weights of one part of a model, made to fit it or refused."""
import re
from math import isqrt
from typing import Dict, List, NamedTuple, Optional, Tuple

import torch
from mmengine.logging import print_log
from mmpretrain.models import MAEPretrainDecoder, VisionTransformer
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from ..utils.errors import ConfigurationError
from .checkpoint_names import COLUMN_TITLES, LANDMARKS, vit_prefixes
from .layers.position_embedding import recognize_sincos
from .layers.relative_position_bias import (NUM_CLS_ENTRIES, TABLE, resize_table,
                                            table_grid)

Grid = Tuple[int, int]

# Parts that a checkpoint may lack because pre-training has no use for them:
# norms that only some heads need, biases that start at zero, the segments.
MAY_BE_NEW = re.compile(rf'ln[12]\.|segment_embed$|.*{TABLE}$')
# Parts that the backbone may be built without.
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
    target = part.state_dict()
    resized = []
    if isinstance(part, MAEPretrainDecoder) and hasattr(part, 'grid'):
        resized = _fit_decoder_positions(part, weights)
    refuse([name for name in weights if name not in target],
            f'{source} has weights that this {type(part).__name__} has no place for')
    refuse([name for name in target if name not in weights],
            f'{source} would leave weights of {type(part).__name__} uninitialised')
    _refuse_shapes(weights, target, source, type(part).__name__)
    return Fitted(resized, [], [])


def _fit_vit(vit, weights, source, grid, ask) -> Fitted:
    target = vit.state_dict()
    _check_architecture(weights, target, source)
    is_beit = 'layers.0.gamma_1' in weights
    if is_beit:
        _rename_beit(weights)
    unused = [name for name in weights if name not in target]
    missing = [name for name in target if name not in weights]
    refuse([n for n in unused if not MAY_BE_IGNORED.match(n)],
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
    resized = _fit_grids(vit, weights, target, source, grid, ask)
    _refuse_shapes(weights, target, source, 'backbone')
    if 'pos_embed' in missing:  # BEiT knows relative positions only
        weights['pos_embed'] = torch.zeros_like(target['pos_embed'])
    return Fitted(resized, missing, unused)


def _check_architecture(weights: Dict[str, Tensor], target: Dict[str, Tensor],
                        source: str) -> None:
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
    """mmpretrain's ``BEiTViT`` as a ViT with layer scale and bias tables."""
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
        if shared_table is not None:  # shared in pre-training only
            weights[f'{attention}.rel_pos_bias.{TABLE}'] = shared_table


def _fit_grids(vit, weights, target, source, grid, ask) -> List[str]:
    """Give positions and bias tables the grid of a ViT, in place of ``weights``.

    Fixed positions (in pre-training) are computed; those that go on to be trained
    are interpolated, so that they begin as coordinates that were seen.
    """
    resized = []
    wanted = tuple(vit.patch_resolution)
    has_cls = 'cls_token' in weights  # then its position is the first
    positions = weights.get('pos_embed')
    if positions is not None:
        table = recognize_sincos(positions[:, int(has_cls):])
        if table is not None:
            grid = table.grid
        else:
            grid = _learnt_grid(
                positions.shape[1] - has_cls, grid, wanted, source, ask)
        if has_cls and not vit.with_cls_token:
            positions = positions[:, 1:]
        if grid != wanted:
            if table is not None and getattr(vit, 'is_pretraining', False):
                positions = torch.cat(
                    [positions[:, :1], table.resized(wanted, vit.embed_dims)[:, 1:]],
                    dim=1)
            else:
                positions = resize_pos_embed(
                    positions, grid, wanted, vit.interpolate_mode,
                    vit.num_extra_tokens)
            resized.append(_change('pos_embed', grid, wanted))
        weights['pos_embed'] = positions
    num_cls = NUM_CLS_ENTRIES if has_cls else 0
    for name in target:
        if not name.endswith(TABLE) or name not in weights:
            continue
        own = table_grid(len(weights[name]) - num_cls, grid, wanted)
        if own is None:
            raise ConfigurationError(
                f'{source} has a {name} of {len(weights[name])} entries, which do '
                'not tell their patch grid; say it as grid=(rows, columns) beside '
                'checkpoint in init_cfg.')
        if own != wanted:
            weights[name] = resize_table(weights[name], own, wanted, num_cls)
            resized.append(_change(name, own, wanted))
        if has_cls and not vit.with_cls_token:
            weights[name] = weights[name][:-NUM_CLS_ENTRIES]
    return resized


def _learnt_grid(num_patches: int, known: Optional[Grid], wanted: Grid, source: str,
                 ask: bool) -> Grid:
    """The patch grid of trained positions, which do not show it.

    Args:
        num_patches (int): How many there are.
        known (tuple[int, int], optional): What the checkpoint says.
        wanted (tuple[int, int]): That of the model.
        source (str): For messages.
        ask (bool): Refuse what could be of several grids.
    """
    side = isqrt(num_patches)
    square = (side, side) if side * side == num_patches else None
    if known is not None and known[0] * known[1] == num_patches:
        return known
    same_number = wanted[0] * wanted[1] == num_patches
    if square and (not same_number or wanted == square):
        return square
    if not same_number:
        raise ConfigurationError(
            f'{source} has learnt positions of {num_patches} patches, which are not '
            'a square grid, and does not say how they lie; say it as grid=(rows, '
            'columns) beside checkpoint in init_cfg.')
    sentence = (
        f'{source} does not say on which patch grid its {num_patches} positions were '
        f'learnt: {wanted[0]}x{wanted[1]} as in this model'
        f'{f" or {side}x{side}" if square else ", or another"}')
    if ask and square:
        raise ConfigurationError(
            f'{sentence}; say it as grid=(rows, columns) beside checkpoint in '
            'init_cfg.')
    print_log(f'{sentence}; they are taken as {wanted[0]}x{wanted[1]}.',
              logger='current', level=30)
    return wanted


def _fit_decoder_positions(decoder, weights: Dict[str, Tensor]) -> List[str]:
    positions = weights.get('decoder_pos_embed')
    table = None if positions is None else recognize_sincos(positions[:, 1:])
    if table is None or table.grid == decoder.grid:
        return []
    weights['decoder_pos_embed'] = torch.cat(
        [positions[:, :1],
         table.resized(decoder.grid, positions.shape[-1])[:, 1:]], dim=1)
    return [_change('decoder_pos_embed', table.grid, decoder.grid)]


def _change(name: str, source: Grid, target: Grid) -> str:
    return f'{name} {source[0]}x{source[1]} -> {target[0]}x{target[1]}'


def _refuse_shapes(weights, target, source, what) -> None:
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
