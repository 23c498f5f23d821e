"""What a MixedAEViT refuses before anything is built."""
from inspect import isclass
from math import inf
from typing import List, Optional, Union

from mmengine.model import PretrainedInit
from mmengine.registry import WEIGHT_INITIALIZERS
from mmpretrain.models import VisionTransformer
from mmpretrain.models.backbones.vision_transformer import (PatchEmbed,
                                                            TransformerEncoderLayer)

from ..utils.checks import (check_choice, check_count, check_flag, check_heads,
                            check_names,
                      check_norm, check_number, check_probability, check_side)
from ..utils.errors import ConfigurationError

# What mmpretrain's patch embedding is told by other arguments.
PATCH_GEOMETRY = ('in_channels', 'embed_dims', 'conv_type', 'kernel_size',
                  'stride', 'padding', 'dilation', 'input_size')


def check_arch(arch: Union[str, dict], known: dict) -> dict:
    """The sizes of an architecture: those of ``known``, or given themselves."""
    if isinstance(arch, dict):
        for key in ('embed_dims', 'num_layers', 'num_heads',
                    'feedforward_channels'):
            check_count(f'arch.{key}', arch.get(key))
        check_heads('arch.num_heads', arch['embed_dims'], arch['num_heads'])
        return arch
    if not isinstance(arch, str) or arch.lower() not in known:
        raise ConfigurationError(
            f'MixedAEViT has no arch {arch!r}; choose one of {sorted(known)} or '
            'give a dict.')
    return known[arch.lower()]


def check_pretraining(sizes: dict, img_size, patch_size, kwargs: dict) -> None:
    """Refuse values of mmpretrain's ViT that pre-training cannot work with."""
    check_number('embed_dims', sizes['embed_dims'], lambda width: width % 4 == 0,
                 'be a multiple of 4, for sin-cos positions')
    check_side('img_size', img_size)
    check_count('patch_size', patch_size)
    check_count('in_channels', kwargs.get('in_channels', 3))
    for name in ('drop_rate', 'drop_path_rate'):
        check_probability(name, kwargs.get(name, 0.))
    check_number('layer_scale_init_value', kwargs.get('layer_scale_init_value', 0.),
                 lambda value: 0 <= value < inf, 'be a number >= 0')
    for name in ('qkv_bias', 'final_norm', 'with_cls_token', 'pre_norm'):
        check_flag(name, kwargs.get(name, True))
    for name in ('final_norm', 'with_cls_token'):
        if not kwargs.get(name, True):
            raise ConfigurationError(f'{name} must be True in pre-training.')
    check_norm('norm_cfg', kwargs.get('norm_cfg', dict(type='LN')))
    check_choice('out_type', kwargs.get('out_type', 'raw'),
                 sorted(VisionTransformer.OUT_TYPES))
    check_choice('interpolate_mode', kwargs.get('interpolate_mode', 'bicubic'),
                 ('bicubic', 'bilinear', 'nearest', 'area'))
    patch_cfg = _options('patch_cfg', kwargs.get('patch_cfg', {}), PatchEmbed)
    for name in PATCH_GEOMETRY:
        if name in patch_cfg:
            raise ConfigurationError(
                f'patch_cfg.{name} must not be given in pre-training; say '
                'patch_size, img_size and in_channels.')
    layer_cfgs = kwargs.get('layer_cfgs', {})
    if isinstance(layer_cfgs, dict):
        layer_cfgs = [layer_cfgs] * sizes['num_layers']
    if (not isinstance(layer_cfgs, (list, tuple))
            or len(layer_cfgs) != sizes['num_layers']):
        raise ConfigurationError(
            f'layer_cfgs is {layer_cfgs!r}, but must be a dict for all layers, or '
            f'a list of one for each of the {sizes["num_layers"]}.')
    for layer_cfg in layer_cfgs:
        if _options('layer_cfgs', layer_cfg, TransformerEncoderLayer).get(
                'attn_drop_rate'):
            raise ConfigurationError(
                'layer_cfgs.attn_drop_rate must be 0 in pre-training: homologous '
                'attention keeps exactly its K keys.')


def _options(name: str, options, cls: type) -> dict:
    """A dict of arguments of a class, or an error."""
    if not isinstance(options, dict):
        raise ConfigurationError(
            f'{name} is {options!r}, but must be a dict of arguments of '
            f'{cls.__name__}.')
    check_names(name, options, cls)
    return options


def check_out_indices(out_indices, num_layers: int) -> List[int]:
    """Indices of layers, in order and each once, counted from 0."""
    if isinstance(out_indices, int):
        out_indices = [out_indices]
    if not isinstance(out_indices, (list, tuple, range)):
        raise ConfigurationError(
            f'out_indices is {out_indices!r}, but must be the number of a layer, or '
            'a list of them.')
    given = list(out_indices)
    counted = [
        i + num_layers if isinstance(i, int) and i < 0 else i for i in given
    ]
    if not counted or any(i not in range(num_layers) for i in counted):
        raise ConfigurationError(
            f'out_indices = {given}, but a ViT of {num_layers} layers '
            f'has outputs 0 to {num_layers - 1} (or -{num_layers} to -1).')
    if counted != sorted(set(counted)):
        raise ConfigurationError(
            f'out_indices = {given}, but outputs come in the order of the '
            f'layers, each once: {sorted(set(counted))}.')
    return counted


def check_init_cfg(init_cfg, pretrained: Optional[str] = None):
    """One ``init_cfg`` of the two ways to name a checkpoint.

    Args:
        init_cfg (dict | list[dict] | None): As for any module of mmengine.
        pretrained (str, optional): Short for one of type ``Pretrained``.

    Returns:
        dict | list[dict] | None: What to hand on, with types by name: mmengine
        takes a class as it is, and ``PretrainedInit`` lets misfits pass.

    Raises:
        ConfigurationError: If it is neither, or names more than one checkpoint.
    """
    entries = [init_cfg] if isinstance(init_cfg, dict) else init_cfg or ()
    if not isinstance(entries, (list, tuple)) or not all(
            isinstance(entry, dict) and _is_initializer(entry.get('type'))
            for entry in entries):
        raise ConfigurationError(
            f'init_cfg is {init_cfg!r}, but must be a dict, or a list of them, with '
            f'a type of {sorted(WEIGHT_INITIALIZERS.module_dict)}.')
    entries = [
        dict(entry, type='Pretrained') if entry['type'] is PretrainedInit else entry
        for entry in entries
    ]
    named = [entry for entry in entries if entry['type'] == 'Pretrained']
    if pretrained is not None and named:
        raise ConfigurationError(
            f"The backbone was given pretrained='{pretrained}' and an "
            "init_cfg of type 'Pretrained'; keep one of them (in mmseg, "
            'model = dict(pretrained=None) drops the first).')
    if len(named) > 1:
        raise ConfigurationError(
            "init_cfg names several checkpoints; keep one of type "
            "'Pretrained'.")
    if pretrained is not None:
        entries.append(dict(type='Pretrained', checkpoint=pretrained))
    return entries[0] if len(entries) == 1 else entries or None


def _is_initializer(kind) -> bool:
    return isclass(kind) or (
        isinstance(kind, str) and WEIGHT_INITIALIZERS.get(kind) is not None)
