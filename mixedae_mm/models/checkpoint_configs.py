"""What the configuration in or beside a checkpoint says about its ViT."""
import json
import posixpath
from math import inf
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple
from urllib.parse import urlsplit, urlunsplit

from mmengine import fileio
from torch import Tensor

from ..utils.errors import ConfigurationError
from ..utils.messages import warn
from .checkpoint_reading import saved_config
from .mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from .vit_sizes import ARCHES

# A config.json with one of these keys is of the library.
CONFIG_KEYS = {
    'timm': ('architecture', 'model_args', 'pretrained_cfg'),
    'hf': ('model_type', 'hidden_size'),
}
PREPROCESSOR = 'preprocessor_config.json'
# Where each library writes what interop.describe asks for. The first place counts.
KEYS = {
    'mm': dict(
        heads='model.backbone.arch.num_heads', width='model.backbone.arch.embed_dims',
        decoder_heads='model.neck.decoder_num_heads',
        img_size='model.backbone.img_size', norm_eps='model.backbone.norm_cfg.eps',
        norm_pix='model.head.norm_pix', pooling='model.backbone.out_type',
        mean='model.data_preprocessor.mean data_preprocessor.mean',
        std='model.data_preprocessor.std data_preprocessor.std',
        classes='dataset_meta.classes'),
    'timm': dict(
        heads='model_args.num_heads', img_size='model_args.img_size',
        input_size='pretrained_cfg.input_size',
        mean='pretrained_cfg.mean', std='pretrained_cfg.std',
        pooling='model_args.global_pool global_pool', classes='label_names'),
    'hf': dict(
        heads='num_attention_heads', decoder_heads='decoder_num_attention_heads',
        img_size='image_size', norm_eps='layer_norm_eps', norm_pix='norm_pix_loss',
        classes='id2label'),
    PREPROCESSOR: dict(
        mean='image_mean', std='image_std', factor='rescale_factor',
        scales='do_rescale', normalises='do_normalize'),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _flag(value: Any) -> Optional[bool]:
    return value if isinstance(value, bool) else None


def _positive(value: Any) -> Optional[float]:
    return value if _is_number(value) and 0 < value < inf else None


def _count(value: Any) -> Optional[int]:
    return value if isinstance(value, int) and _positive(value) else None


def _size(value: Any) -> Optional[Tuple[int, int]]:
    """Height and width, given as one number or two."""
    sides = value if isinstance(value, (list, tuple)) else [value] * 2
    return (sides[0], sides[1]) if len(sides) == 2 and all(map(_count, sides)) else None


def _size_of_input(value: Any) -> Optional[Tuple[int, int]]:
    """As above, or behind the number of channels."""
    has_channels = isinstance(value, (list, tuple)) and len(value) == 3
    return _size(value[1:] if has_channels else value)


def _colours(value: Any) -> Optional[Tuple[float, ...]]:
    """Numbers of the colour channels, or one for all of them."""
    values = value if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) == 1 and isinstance(values[0], (list, tuple)):
        values = values[0]  # how mmengine takes other numbers than one and three
    return tuple(values) if all(map(_is_number, values)) else None


def _classes(value: Any) -> Optional[Tuple[str, ...]]:
    """Names, in a list or by their number."""
    if isinstance(value, dict) and all(str(index).isdecimal() for index in value):
        value = [value[index] for index in sorted(value, key=int)]
    return tuple(map(str, value)) if isinstance(value, (list, tuple)) else None


# How a value is read, which gives None for one that is not allowed, and what is.
KINDS: Dict[str, Tuple[Callable[[Any], Any], str]] = {
    'heads': (_count, 'an integer of at least 1'),
    'decoder_heads': (_count, 'an integer of at least 1'),
    'img_size': (_size, 'one or two numbers of pixels'),
    'input_size': (_size_of_input, 'one or two numbers of pixels'),
    'norm_eps': (_positive, 'above 0'), 'factor': (_positive, 'above 0'),
    'mean': (_colours, 'numbers of the colours'),
    'std': (_colours, 'numbers of the colours'),
    'classes': (_classes, 'a list of names, or names by number'),
    **dict.fromkeys(('norm_pix', 'scales', 'normalises'), (_flag, 'True or False')),
}


def _at(config: Any, path: str) -> Any:
    """What is at keys with dots between them; None if nothing is."""
    for key in path.split('.'):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _facts(config: dict, column: str, place: str) -> Dict[str, Any]:
    """What a configuration says, by our names; ``place`` is its own in messages."""
    facts: Dict[str, Any] = {}
    for name, paths in KEYS[column].items():
        for path in paths.split():
            value = _at(config, path)
            if value is None or name in facts:
                continue
            convert, allowed = KINDS.get(name, (lambda value: value, ''))
            facts[name] = convert(value)
            if facts[name] is None:
                raise ConfigurationError(
                    f'{path} in {place} is {value!r}, but must be {allowed}.')
    return facts


def mm_facts(checkpoint: dict, path: str) -> dict:
    """What the config in a checkpoint of mmengine says, for ``interop.describe``."""
    config = dict(saved_config(checkpoint),
                  dataset_meta=_at(checkpoint, 'meta.dataset_meta'))
    if not _at(config, 'model'):
        return {}
    facts = dict(dict(img_size=(224, 224), norm_eps=1e-6, pooling='cls_token'),
                 **_facts(config, 'mm', f'the config in {path}'))
    backbone = _at(config, 'model.backbone')
    arch = _at(backbone, 'arch') or 'base'
    if backbone and isinstance(arch, str):
        sizes = ARCHES.get(arch.lower(), {})
        facts.update(heads=sizes.get('num_heads'), width=sizes.get('embed_dims'))
    if _at(config, 'model.neck'):
        facts.setdefault('decoder_heads', 16)
    if _at(config, 'model.type') == 'MixedAE':  # its preprocessor's defaults
        facts = dict(dict(mean=IMAGENET_MEAN, std=IMAGENET_STD), **facts)
    if _at(backbone, 'homologous_in_transfer'):
        facts['refuse'] = ('uses homologous attention on plain images '
                           '(homologous_in_transfer), which a plain ViT has not')
    return facts


def timm_facts(config: dict, path: str) -> dict:
    """What timm's ``config.json`` says."""
    facts = _facts(config, 'timm', f'the config.json of {path}')
    facts.setdefault('img_size', facts.pop('input_size', None))
    return dict(facts, scale=255, norm_eps=1e-6 if config else None)  # of all its ViTs


def hf_facts(config: dict, path: str) -> dict:
    """What Hugging Face's ``config.json`` and ``preprocessor_config.json`` say."""
    facts = _facts(config, 'hf', f'the config.json of {path}')
    images = _facts(json_beside(path, PREPROCESSOR), PREPROCESSOR,
                    f'the {PREPROCESSOR} of {path}')
    factor = images.pop('factor', 1 / 255) if images.pop('scales', True) else 1
    if not images.pop('normalises', True):
        images.update(mean=(0, ) * 3, std=(1, ) * 3)
    facts.update(images, scale=1 / factor, pooling='cls', usual_eps=1e-12)
    if config:  # which may leave out the default
        facts.setdefault('norm_eps', 1e-12)
    activation = config.get('hidden_act', 'gelu')
    if activation not in ('gelu', 'gelu_python'):
        facts['refuse'] = (f'has the activation {activation} (hidden_act), but a '
                           'plain ViT has gelu')
    return facts


def config_beside(path: str, column: str, weights: Dict[str, Tensor]) -> dict:
    """The ``config.json`` of a checkpoint whose weights have mmpretrain's names by now.

    As :func:`json_beside`, and likewise if it is another model's. ``column`` says whose
    names the checkpoint uses: ``'timm'`` or ``'hf'``.
    """
    config = json_beside(path, 'config.json')
    problem = config and _disagreement(config, column, weights)
    return config if not problem else _not_used(
        path, f'The config.json of {path} is of another model: {problem}')


def _disagreement(config: dict, column: str, weights: Dict[str, Tensor]) -> str:
    """In what a config is not that of the weights; empty if it may be."""
    if not any(key in config for key in CONFIG_KEYS[column]):
        return (f'it has none of {CONFIG_KEYS[column]}, but the tensors have the '
                'names of that library')
    width, *_, patch = weights['backbone.patch_embed.projection.weight'].shape
    layers = {name.split('.')[2] for name in weights
              if name.startswith('backbone.layers.')}
    for what, keys, there in (
            ('width', 'hidden_size model_args.embed_dim num_features', width),
            ('number of layers', 'num_hidden_layers model_args.depth', len(layers)),
            ('patch size', 'patch_size model_args.patch_size', patch)):
        said = next(filter(None, (_at(config, key) for key in keys.split())), None)
        if said not in (None, there, [there, there]):
            return f'{what} {said!r}, but {there} in the weights'
    return ''


def json_beside(path: str, name: str) -> dict:
    """Content of a JSON file in or beside a checkpoint; empty if there is none.

    One that cannot be read is refused in a folder that is given as a whole. Beside a
    file it may belong to something else, which is said.
    """
    if '://' in path:
        address = urlsplit(path)
        file = urlunsplit(address._replace(
            path=posixpath.join(posixpath.dirname(address.path), name)))
    else:
        place = Path(path).expanduser()
        file = str((place if place.is_dir() else place.parent) / name)
    # Each storage backend has errors of its own.
    missing = Exception if '://' in path else OSError
    try:
        data = fileio.get(file)
    except missing:  # not there; what must be assumed then is said
        return {}
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return _not_used(path, f'{file} cannot be read as a JSON object')
    return content


def _not_used(path: str, sentence: str) -> dict:
    """Refuse a file of a folder that is given as a whole; else say it, and use none."""
    if Path(path).expanduser().is_dir():
        raise ConfigurationError(f'{sentence}.')
    warn(f'{sentence}; it was not used.')
    return {}
