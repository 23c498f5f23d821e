"""Pre-trained weights into a backbone, completely or not at all."""
import re
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.logging import print_log
from mmpretrain.models.utils import resize_pos_embed
from torch import Tensor, nn

from ..utils.errors import ConfigurationError
from .checkpoint_reading import read_weights
from .layers.position_embedding import sincos_position_embedding
from .layers.relative_position_bias import (NUM_CLS_ENTRIES, TABLE, resize_table)

# Parts that a checkpoint may lack because pre-training has no use for them:
# norms that only some heads need, biases that start at zero, the segments.
MAY_BE_NEW = re.compile(rf'ln[12]\.|segment_embed$|.*{TABLE}$')
# Parts that the backbone may be built without.
MAY_BE_IGNORED = re.compile(
    r'ln[12]\.|(cls_token|segment_embed|mask_token)$|.*relative_position_index$')
# In every ViT of mmpretrain, and in nothing else.
LANDMARK = 'patch_embed.projection.weight'
# The same in timm, Meta's MAE and Hugging Face.
FOREIGN_LANDMARK = re.compile(r'patch_embed\.proj\.|patch_embeddings\.')


class LoadReport(NamedTuple):
    """What became of each tensor.

    Attributes:
        num_loaded (int): Backbone tensors taken from the checkpoint.
        num_total (int): Backbone tensors.
        resized (list[str]): What was interpolated, with both grids.
        new (list[str]): Parts of the backbone that the checkpoint lacks.
        ignored (list[str]): Parts of the checkpoint without use here.
    """
    num_loaded: int
    num_total: int
    resized: List[str]
    new: List[str]
    ignored: List[str]

    def __str__(self) -> str:
        parts = [
            f'loaded {self.num_loaded} of {self.num_total} backbone tensors'
        ]
        if self.resized:
            parts.append('resized ' + ', '.join(self.resized))
        if self.new:
            parts.append('new, not in the checkpoint: ' + ', '.join(self.new))
        if self.ignored:
            parts.append('ignored: ' + ', '.join(self.ignored))
        return '; '.join(parts)


def load_pretrained(backbone: nn.Module,
                    path: str,
                    prefix: Optional[str] = None) -> LoadReport:
    """Load a backbone from a checkpoint and log in one line what happened.

    Args:
        backbone (nn.Module): A ``VisionTransformer`` of mmpretrain.
        path (str): As in :func:`.checkpoint_reading.read_checkpoint`.
        prefix (str, optional): What the names of the backbone's tensors
            begin with in the checkpoint, such as ``'backbone.'``. Defaults
            to wherever the checkpoint has a ViT.

    Returns:
        LoadReport: What was logged.

    Raises:
        ConfigurationError: If the file cannot be read, has no ViT under the
            prefix, one of another architecture, or one that would leave
            weights of the backbone uninitialised. The backbone is unchanged
            then.
    """
    weights = read_weights(path)
    prefix = _find_prefix(weights, prefix, path)
    ignored = sorted(
        {name.split('.')[0] for name in weights if not name.startswith(prefix)})
    weights = {
        name[len(prefix):]: value
        for name, value in weights.items() if name.startswith(prefix)
    }
    target = backbone.state_dict()
    _check_architecture(weights, target, path)
    is_beit = 'layers.0.gamma_1' in weights
    if is_beit:
        weights = _rename_beit(weights)
    unused = [name for name in weights if name not in target]
    missing = [name for name in target if name not in weights]
    _refuse([n for n in unused if not MAY_BE_IGNORED.match(n)],
            f'{path} has weights that this backbone has no place for' +
            (' (BEiT needs layer_scale_init_value=0.1 and '
             'relative_position_bias=True)' if is_beit else ''))
    _refuse([
        name for name in missing if not MAY_BE_NEW.match(name)
        and not (is_beit and name == 'pos_embed')
    ], f'{path} would leave backbone weights uninitialised')
    resized = _fit_grids(backbone, weights, target, path)
    _refuse([
        f'{name} {tuple(weights[name].shape)} for {tuple(value.shape)}'
        for name, value in target.items()
        if name in weights and weights[name].shape != value.shape
    ], f'{path} has weights of other shapes than this backbone')

    if 'pos_embed' in missing:  # BEiT knows relative positions only
        target['pos_embed'] = torch.zeros_like(target['pos_embed'])
    backbone.load_state_dict(
        {name: weights.get(name, value)
         for name, value in target.items()})
    report = LoadReport(
        num_loaded=len(target) - len(missing),
        num_total=len(target),
        resized=resized,
        new=_parts(missing),
        ignored=_parts(unused) + ignored)
    print_log(f'{path}: {report}', logger='current')
    return report


def _find_prefix(weights: Dict[str, Tensor], prefix: Optional[str],
                 path: str) -> str:
    found = [
        name[:-len(LANDMARK)] for name in weights if name.endswith(LANDMARK)
    ]
    if not found:
        hint = ''
        if any(FOREIGN_LANDMARK.search(name) for name in weights):
            hint = (', but the names of timm, Meta or Hugging Face; convert '
                    'it with tools/converters/convert.py --to mm')
        raise ConfigurationError(
            f'{path} has no ViT in the names of mmpretrain{hint}.')
    if prefix is not None:
        prefix = prefix if prefix.endswith('.') or not prefix else f'{prefix}.'
        # The backbone alone was saved: there is nothing to choose.
        if prefix == 'backbone.' and found == ['']:
            return ''
        if prefix not in found:
            raise ConfigurationError(
                f"{path} has no ViT under prefix '{prefix}', but under "
                f'{found}.')
        return prefix
    if len(found) > 1 and 'backbone.' not in found:
        raise ConfigurationError(
            f'{path} has several ViTs; choose one by prefix= of {found}.')
    return found[0] if len(found) == 1 else 'backbone.'


def _check_architecture(weights: Dict[str, Tensor], target: Dict[str, Tensor],
                        path: str) -> None:
    given, wanted = _architecture(weights), _architecture(target)
    differences = [
        f'{name} {given[name]} instead of {wanted[name]}' for name in wanted
        if given[name] != wanted[name]
    ]
    if differences:
        raise ConfigurationError(
            f'{path} holds another ViT than this backbone: '
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


def _rename_beit(weights: Dict[str, Tensor]) -> Dict[str, Tensor]:
    """mmpretrain's ``BEiTViT`` as a ViT with layer scale and bias tables."""
    renamed = {}
    for name, value in weights.items():
        name = re.sub(r'gamma_1$', 'attn.gamma1.weight', name)
        name = re.sub(r'gamma_2$', 'ffn.gamma2.weight', name)
        name = re.sub(rf'attn\.{TABLE}$', f'attn.rel_pos_bias.{TABLE}', name)
        renamed[name] = value
    shared_table = renamed.pop(f'rel_pos_bias.{TABLE}', None)
    for i in range(_architecture(weights)['layers']):
        attention = f'layers.{i}.attn'
        if f'{attention}.q_bias' in renamed:  # BEiT's keys have no bias
            query = renamed.pop(f'{attention}.q_bias')
            value = renamed.pop(f'{attention}.v_bias')
            renamed[f'{attention}.qkv.bias'] = torch.cat(
                [query, torch.zeros_like(query), value])
        if shared_table is not None:  # shared in pre-training only
            renamed[f'{attention}.rel_pos_bias.{TABLE}'] = shared_table
    return renamed


def _fit_grids(backbone: nn.Module, weights: Dict[str, Tensor],
               target: Dict[str, Tensor], path: str) -> List[str]:
    """Interpolate what depends on the patch grid, in place of ``weights``."""
    resized = []
    rows, columns = backbone.patch_resolution
    extra = backbone.num_extra_tokens
    position = weights.get('pos_embed')
    if position is not None:
        if not backbone.with_cls_token:  # no such token: no position for it
            position = weights['pos_embed'] = position[:, 1:]
        source = position.shape[1] - extra
        if source != rows * columns:
            grid = _source_grid(position[:, extra:], path)
            weights['pos_embed'] = resize_pos_embed(
                position, grid, (rows, columns), backbone.interpolate_mode,
                extra)
            resized.append(
                f'pos_embed {grid[0]}x{grid[1]} -> {rows}x{columns}')
    for name in target:
        if not name.endswith(TABLE) or name not in weights:
            continue
        num_cls = NUM_CLS_ENTRIES if extra else 0
        side = (1 + round((len(weights[name]) - num_cls)**0.5)) // 2
        if len(weights[name]) != len(target[name]):
            weights[name] = resize_table(weights[name], (side, side),
                                         (rows, columns), num_cls)
            resized.append(
                f'{name} {side}x{side} -> {rows}x{columns}')
    return resized


def _source_grid(position: Tensor, path: str) -> Tuple[int, int]:
    """The patch grid that a table of positions ``(1, L, C)`` was made for.

    Fixed sin-cos positions tell their grid; others are taken to be square.
    """
    num_patches, width = position.shape[1:]
    for rows in range(1, num_patches + 1):
        if num_patches % rows == 0 and width % 4 == 0:
            grid = (rows, num_patches // rows)
            table = sincos_position_embedding(grid, width)[:, 1:]
            if torch.allclose(position.float(), table, atol=1e-3):
                return grid
    side = round(num_patches**0.5)
    if side * side != num_patches:
        raise ConfigurationError(
            f'{path} has learnt positions of {num_patches} patches, which are '
            'no square grid, and can be resized from a square one only; '
            'build the backbone with the img_size of its pre-training.')
    return side, side


def _parts(names: Sequence[str]) -> List[str]:
    """Short names: modules without their ``.weight`` and ``.bias``, once."""
    short = [re.sub(r'\.(weight|bias)$', '', name) for name in names]
    short = [re.sub(r'^layers\.\d+', 'layers.*', name) for name in short]
    return list(dict.fromkeys(short))


def _refuse(names: List[str], what: str) -> None:
    if names:
        raise ConfigurationError(f'{what}: {", ".join(names)}.')
