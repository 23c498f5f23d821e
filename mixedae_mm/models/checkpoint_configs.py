"""What the configuration in or beside a checkpoint says about its ViT."""
import json
import logging
import posixpath
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple
from urllib.parse import urlsplit, urlunsplit

from mmengine import fileio
from mmengine.logging import print_log
from mmpretrain.models import VisionTransformer
from torch import Tensor

from ..utils.checks import check_count, check_flag, check_number
from ..utils.errors import ConfigurationError
from .checkpoint_reading import literal_config
from .mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD

# A config.json with one of these keys is of the library.
CONFIG_KEYS = {
    'timm': ('architecture', 'model_args', 'pretrained_cfg'),
    'hf': ('model_type', 'hidden_size'),
}
# What a classifier reads, by mmpretrain's names and by timm's.
POOLINGS: Dict[Optional[str], str] = {
    'avg_featmap': 'mean', 'cls_token': 'cls', 'avg': 'mean', 'token': 'cls'}


def mm_facts(meta: Any, path: str) -> dict:
    """What ``meta`` in a checkpoint of mmengine says, for ``interop.describe``.

    Args:
        meta (dict | None): Its ``cfg`` is the text of a config. It is parsed
            as literals; nothing in it is executed.
        path (str): Of the checkpoint, for messages.
    """
    meta = section(meta)
    config = meta.get('cfg')
    config = literal_config(config) if isinstance(config, str) else section(config)
    model = section(config.get('model'))
    if not model:
        return {}
    backbone, neck, head = (
        section(model.get(part)) for part in ('backbone', 'neck', 'head'))
    preprocessor = section(
        model.get('data_preprocessor') or config.get('data_preprocessor'))
    if model.get('type') == 'MixedAE':  # whose preprocessor has these by default
        preprocessor = dict(dict(mean=IMAGENET_MEAN, std=IMAGENET_STD), **preprocessor)
    arch = backbone.get('arch', 'base')
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo.get(arch.lower())
    arch = section(arch)
    place = f'the config in {path}'
    facts = dict(
        heads=_value(arch, 'num_heads', check_count, place) if backbone else None,
        width=arch.get('embed_dims'),
        img_size=_size(backbone.get('img_size', 224), f'img_size in {place}'),
        norm_eps=_value(section(backbone.get('norm_cfg')), 'eps', _check_positive,
                        place, 1e-6),
        norm_pix=head.get('norm_pix'),
        mean=_colours(preprocessor, 'mean', place),
        std=_colours(preprocessor, 'std', place),
        pooling=POOLINGS.get(backbone.get('out_type', 'cls_token')),
        classes=_classes(section(meta.get('dataset_meta')), 'classes', place))
    if neck:
        facts['decoder_heads'] = _value(
            neck, 'decoder_num_heads', check_count, place, 16)
    if backbone.get('homologous_in_transfer'):
        facts['refuse'] = ('uses homologous attention on plain images '
                           '(homologous_in_transfer), which a plain ViT has not')
    return facts


def timm_facts(config: dict, path: str) -> dict:
    """What timm's ``config.json`` says."""
    place = f'the config.json of {path}'
    arguments = _value(config, 'model_args', _check_section, place, {})
    pretrained = _value(config, 'pretrained_cfg', _check_section, place, {})
    img_size = _size(arguments.get('img_size'), f'img_size in {place}')
    if img_size is None:
        input_size = pretrained.get('input_size')  # (channels, height, width)
        if isinstance(input_size, list):
            input_size = input_size[1:]
        img_size = _size(input_size, f'input_size in {place}')
    return dict(
        heads=_value(arguments, 'num_heads', check_count, place),
        norm_eps=1e-6 if config else None,  # of all its ViTs
        img_size=img_size,
        mean=_colours(pretrained, 'mean', place, 255),
        std=_colours(pretrained, 'std', place, 255),
        pooling=POOLINGS.get(
            arguments.get('global_pool', config.get('global_pool'))),
        classes=_classes(config, 'label_names', place))


def hf_facts(config: dict, path: str) -> dict:
    """What Hugging Face's ``config.json`` and ``preprocessor_config.json`` say."""
    preprocessor = json_beside(path, 'preprocessor_config.json')
    place, other_place = (f'the {name}.json of {path}'
                          for name in ('config', 'preprocessor_config'))
    # What its mean and standard deviation must be times for pixels of 0..255.
    scale = 1 / _value(
        preprocessor, 'rescale_factor', _check_positive, other_place, 1 / 255)
    if not _value(preprocessor, 'do_rescale', check_flag, other_place, True):
        scale = 1
    mean = _colours(preprocessor, 'image_mean', other_place, scale)
    std = _colours(preprocessor, 'image_std', other_place, scale)
    if not _value(preprocessor, 'do_normalize', check_flag, other_place, True):
        mean, std = (0.0, ) * 3, (scale, ) * 3
    facts = dict(
        heads=_value(config, 'num_attention_heads', check_count, place),
        decoder_heads=_value(
            config, 'decoder_num_attention_heads', check_count, place),
        img_size=_size(config.get('image_size'), f'image_size in {place}'),
        # The default, which a config may leave out.
        norm_eps=_value(config, 'layer_norm_eps', _check_positive, place,
                        1e-12 if config else None),
        usual_eps=1e-12,
        norm_pix=_value(config, 'norm_pix_loss', check_flag, place),
        mean=mean,
        std=std,
        pooling='cls',
        classes=_classes(config, 'id2label', place))
    activation = config.get('hidden_act', 'gelu')
    if activation not in ('gelu', 'gelu_python'):
        facts['refuse'] = (f'has the activation {activation} (hidden_act), but a '
                           'plain ViT has gelu')
    return facts


def config_beside(path: str, column: str, weights: Dict[str, Tensor]) -> dict:
    """The ``config.json`` of a checkpoint; empty if it has none.

    Beside a file there may be another model's, which is said and not used; in
    a folder that is given as a whole this is an error.

    Args:
        path (str): File, folder or address of the checkpoint.
        column (str): Whose names it uses: ``'timm'`` or ``'hf'``.
        weights (dict[str, Tensor]): By mmpretrain's names.
    """
    config = json_beside(path, 'config.json')
    problem = config and _disagreement(config, column, weights)
    if not problem:
        return config
    sentence = f'The config.json of {path} is of another model: {problem}'
    if Path(path).expanduser().is_dir():
        raise ConfigurationError(f'{sentence}.')
    print_log(f'{sentence}; it was not used.', 'current', logging.WARNING)
    return {}


def _disagreement(config: dict, column: str, weights: Dict[str, Tensor]) -> str:
    """In what a config is not that of the weights; empty if it may be."""
    if not any(key in config for key in CONFIG_KEYS[column]):
        return (f'it has none of {CONFIG_KEYS[column]}, but the tensors have the '
                'names of that library')
    projection = weights['backbone.patch_embed.projection.weight']
    layers = {name.split('.')[2] for name in weights
              if name.startswith('backbone.layers.')}
    arguments = section(config.get('model_args'))
    for what, said, there in (
        ('width', config.get('hidden_size') or arguments.get('embed_dim')
         or config.get('num_features'), projection.shape[0]),
        ('number of layers', config.get('num_hidden_layers')
         or arguments.get('depth'), len(layers)),
        ('patch size', config.get('patch_size') or arguments.get('patch_size'),
         projection.shape[-1]),
    ):
        if said not in (None, there, [there, there]):
            return f'{what} {said!r}, but {there} in the weights'
    return ''


def json_beside(path: str, name: str) -> dict:
    """Content of a JSON file in or beside a checkpoint; empty if there is none.

    Raises:
        ConfigurationError: If a file of a folder that is given as a whole
            cannot be read. Beside a file it may belong to something else,
            which is said.
    """
    is_folder = False
    if '://' in path:
        address = urlsplit(path)
        file = urlunsplit(address._replace(
            path=posixpath.join(posixpath.dirname(address.path), name)))
    else:
        place = Path(path).expanduser()
        is_folder = place.is_dir()
        file = str((place if is_folder else place.parent) / name)
    try:
        content = json.loads(fileio.get(file))
    except OSError:  # not there; what must be assumed then is said
        return {}
    except ValueError:
        content = None
    if isinstance(content, dict):
        return content
    if is_folder:
        raise ConfigurationError(f'{file} cannot be read as a JSON object.')
    print_log(f'{file} cannot be read as a JSON object; it was not used.', 'current',
              logging.WARNING)
    return {}


def section(value: Any) -> dict:
    """A value if it is a dict; empty if it is anything else."""
    return value if isinstance(value, dict) else {}


def _value(config: dict, key: str, check: Callable[[str, Any], None], place: str,
           default: Any = None) -> Any:
    """A value of a configuration, checked; the default where there is none."""
    value = config.get(key)
    if value is None:
        return default
    check(f'{key} in {place}', value)
    return value


_check_positive = partial(
    check_number, is_allowed=lambda number: 0 < number < inf, allowed='be above 0')


def _check_section(name: str, value: Any) -> None:
    if not isinstance(value, dict):
        raise ConfigurationError(f'{name} is {value!r}, but must be an object.')


def _size(value: Any, name: str) -> Optional[Tuple[int, int]]:
    """Height and width, of one number or two."""
    if value is None:
        return None
    sides = value if isinstance(value, (list, tuple)) else [value] * 2
    if len(sides) != 2:
        raise ConfigurationError(
            f'{name} is {value!r}, but must be one or two numbers of pixels.')
    for side in sides:
        check_count(name, side)
    return sides[0], sides[1]


def _colours(config: dict, key: str, place: str, scale: float = 1) -> Optional[tuple]:
    """Numbers of the colour channels, times ``scale``."""
    values = config.get(key)
    if values is None:
        return None
    # Hugging Face: one for all channels
    values = values if isinstance(values, (list, tuple)) else [values] * 3
    if any(isinstance(value, bool) or not isinstance(value, (int, float))
           for value in values):
        raise ConfigurationError(
            f'{key} in {place} is {values!r}, but must be numbers of the colours.')
    return tuple(round(value * scale, 6) for value in values)


def _classes(config: dict, key: str, place: str) -> Optional[tuple]:
    names = config.get(key) or []
    if isinstance(names, dict) and all(str(index).isdecimal() for index in names):
        names = [names[index] for index in sorted(names, key=int)]  # Hugging Face
    if not isinstance(names, (list, tuple)):
        raise ConfigurationError(
            f'{key} in {place} is {names!r}, but must be a list of names, or names by '
            'number.')
    return tuple(map(str, names)) or None
