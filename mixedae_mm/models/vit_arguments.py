"""Arguments of a MixedAEViT, checked when it is built."""
from inspect import isclass
from numbers import Integral
from typing import Any, List, Optional

from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmpretrain.models import VisionTransformer

from ..mixing import patch_grid
from ..utils.checks import check_count, check_number
from ..utils.errors import ConfigurationError


def check_homologous(vit: VisionTransformer) -> None:
    """Refuse numbers that homologous attention cannot work with."""
    check_count('num_global_layers', vit.num_global_layers, 0, vit.num_layers)
    check_number('k_ratio', vit.k_ratio, lambda ratio: 0 < ratio <= 1,
                 'lie in (0, 1]: the share of the patches that homologous '
                 'attention keeps per query')
    if vit.relative_position_bias and (vit.is_pretraining
                                       or vit.homologous_in_transfer):
        raise ConfigurationError(
            'relative_position_bias is for transfer with global attention; it '
            'does not go with num_sources or homologous_in_transfer.')


def check_pretraining(vit: VisionTransformer, patch_size: int) -> None:
    """Refuse a ViT that can be built, but not be MixedAE's encoder."""
    for name in ('final_norm', 'with_cls_token'):
        if not getattr(vit, name):
            raise ConfigurationError(f'{name} must be True in pre-training.')
    if vit.embed_dims % 4:
        raise ConfigurationError(
            f'embed_dims is {vit.embed_dims}, but must be a multiple of 4 in '
            'pre-training, for sin-cos positions.')
    rows, columns = patch_grid(vit.img_size, patch_size)
    if tuple(vit.patch_resolution) != (rows, columns):
        raise ConfigurationError(
            f'patch_cfg makes {tuple(vit.patch_resolution)} patches of an image '
            f'that img_size and patch_size cut into {(rows, columns)}; leave the '
            'geometry out of patch_cfg.')
    if any(layer.attn.attn_drop for layer in vit.layers):
        raise ConfigurationError(
            'layer_cfgs.attn_drop_rate must be 0 in pre-training: homologous '
            'attention keeps exactly its K keys.')


def check_out_indices(out_indices, num_layers: int) -> List[int]:
    """Indices of layers, ascending and each once, counted from 0."""
    try:
        given = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        counted = [range(num_layers)[i] for i in given]  # -1 is the last layer
    except (TypeError, IndexError):
        counted = []
    if not counted or counted != sorted(set(counted)):
        raise ConfigurationError(
            f'out_indices = {out_indices!r}, but must name layers in ascending '
            f'order, each once: a ViT of {num_layers} layers has outputs 0 to '
            f'{num_layers - 1} (or -{num_layers} to -1).')
    return counted


def check_heads(name: str, attention: Any) -> None:
    """Refuse a width that the heads cannot share; mmpretrain fails in the forward."""
    width = attention.embed_dims
    check_number(name, attention.num_heads,
                 lambda heads: isinstance(heads, Integral) and int(heads) > 0
                 and width % int(heads) == 0,
                 f'be a positive integer that divides the width, {width}')


def check_init_cfg(init_cfg, pretrained: Optional[str] = None):
    """Make one ``init_cfg`` of the two ways to name a checkpoint.

    ``pretrained`` is short for one of type ``'Pretrained'``, and so is mmengine's own
    class ``PretrainedInit`` here, which would load whatever fits: the name stands for
    :class:`.CheckedPretrainedInit`.

    Raises:
        ConfigurationError: If ``init_cfg`` is of another type or names an unknown one,
            or more than one checkpoint is named.
    """
    entries = list(init_cfg) if isinstance(init_cfg, (list, tuple)) else [init_cfg]
    entries = [entry for entry in entries if entry is not None]
    if not all(isinstance(entry, dict) and _is_initializer(entry.get('type'))
               for entry in entries):
        types = ', '.join(sorted(WEIGHT_INITIALIZERS.module_dict))
        raise ConfigurationError(
            f'init_cfg is {init_cfg!r}, but must be a dict with a type, or a list of '
            f'them; the types are {types}.')
    entries = [dict(entry, type='Pretrained') if entry['type'] is PretrainedInit
               else entry for entry in entries]
    named = [entry for entry in entries if entry['type'] == 'Pretrained']
    if pretrained is not None and named:
        raise ConfigurationError(
            f"The backbone was given pretrained='{pretrained}' and an "
            "init_cfg of type 'Pretrained'; keep one of them (in mmseg, "
            'model = dict(pretrained=None) drops the first).')
    if len(named) > 1:
        raise ConfigurationError(
            "init_cfg names several checkpoints; keep one of type 'Pretrained'.")
    if pretrained is not None:
        entries.append(dict(type='Pretrained', checkpoint=pretrained))
    return entries[0] if len(entries) == 1 else entries or None


def _is_initializer(kind: Any) -> bool:
    return isclass(kind) or (
        isinstance(kind, str) and WEIGHT_INITIALIZERS.get(kind) is not None)
