"""What the configuration in or beside a checkpoint says about its ViT."""
import json
import posixpath
from math import inf
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple
from urllib.parse import urlsplit, urlunsplit

from mmengine import fileio
from torch import Tensor

from ..utils.checks import check_count, check_flag, check_number
from ..utils.errors import ConfigurationError
from ..utils.messages import warn
from ..utils.preprocessing import height_and_width
from .checkpoint_reading import saved_config
from .mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from .vit_sizes import ARCHES

# A config.json with one of these keys is of the library.
CONFIG_KEYS = {
    'timm': ('architecture', 'model_args', 'pretrained_cfg'),
    'hf': ('model_type', 'hidden_size'),
}
PREPROCESSOR = 'preprocessor_config.json'

# How a value is read: functions of its name in messages and of the value, which raise
# a ConfigurationError for one that is not allowed; None takes it as it is.


def _truth(name: str, value: Any) -> bool:
    return bool(value)


def _positive(name: str, value: Any) -> float:
    return check_number(name, value, lambda number: 0 < number < inf, 'be above 0')


def _size(name: str, value: Any) -> Tuple[int, int]:
    return height_and_width(value, name)


def _size_of_input(name: str, value: Any) -> Tuple[int, int]:
    """Height and width, which may stand behind the number of channels."""
    has_channels = isinstance(value, (list, tuple)) and len(value) == 3
    return _size(name, value[1:] if has_channels else value)


def _colours(name: str, value: Any) -> Tuple[float, ...]:
    """Numbers of the colour channels, or one for all of them."""
    values = value if isinstance(value, (list, tuple)) else [value] * 3
    if len(values) == 1 and isinstance(values[0], (list, tuple)):
        values = values[0]  # how mmengine takes other numbers than one and three
    if not all(isinstance(each, (int, float)) and not isinstance(each, bool)
               for each in values):
        raise ConfigurationError(
            f'{name} is {value!r}, but must be numbers of the colours.')
    return tuple(values)


def _classes(name: str, value: Any) -> Tuple[str, ...]:
    """Names, in a list or by their number."""
    names = value
    if isinstance(value, dict) and all(str(index).isdecimal() for index in value):
        names = [value[index] for index in sorted(value, key=int)]
    if not isinstance(names, (list, tuple)):
        raise ConfigurationError(
            f'{name} is {value!r}, but must be a list of names, or names by number.')
    return tuple(map(str, names))


# Where each library writes what interop.describe asks for (keys of nested dicts, with
# dots between them), and how it is read.
KEYS: Dict[str, Dict[str, Tuple[str, Optional[Callable[[str, Any], Any]]]]] = {
    'mm': dict(
        heads=('model.backbone.arch.num_heads', check_count),
        width=('model.backbone.arch.embed_dims', None),
        decoder_heads=('model.neck.decoder_num_heads', check_count),
        img_size=('model.backbone.img_size', _size),
        norm_eps=('model.backbone.norm_cfg.eps', _positive),
        norm_pix=('model.head.norm_pix', _truth),
        pooling=('model.backbone.out_type', None),
        mean=('data_preprocessor.mean', _colours),
        std=('data_preprocessor.std', _colours),
        classes=('dataset_meta.classes', _classes)),
    'timm': dict(
        heads=('model_args.num_heads', check_count),
        img_size=('model_args.img_size', _size),
        input_size=('pretrained_cfg.input_size', _size_of_input),
        mean=('pretrained_cfg.mean', _colours),
        std=('pretrained_cfg.std', _colours),
        pooling=('model_args.global_pool', None),
        classes=('label_names', _classes)),
    'hf': dict(
        heads=('num_attention_heads', check_count),
        decoder_heads=('decoder_num_attention_heads', check_count),
        img_size=('image_size', _size),
        norm_eps=('layer_norm_eps', _positive),
        norm_pix=('norm_pix_loss', check_flag),
        classes=('id2label', _classes)),
    PREPROCESSOR: dict(
        mean=('image_mean', _colours),
        std=('image_std', _colours),
        factor=('rescale_factor', _positive),
        scales=('do_rescale', check_flag),
        normalises=('do_normalize', check_flag)),
}


def _at(config: Any, path: str) -> Any:
    """What is at keys with dots between them; None if nothing is."""
    for key in path.split('.'):
        config = config.get(key) if isinstance(config, dict) else None
    return config


def _facts(config: dict, column: str, place: str) -> Dict[str, Any]:
    """What a configuration says, by our names; ``place`` is its own in messages."""
    facts: Dict[str, Any] = {}
    for name, (path, read) in KEYS[column].items():
        value = _at(config, path)
        if value is not None:
            facts[name] = read(f'{path} in {place}', value) if read else value
    return facts


def mm_facts(checkpoint: dict, path: str) -> dict:
    """What the config in a checkpoint of mmengine says, for ``interop.describe``."""
    config = dict(saved_config(checkpoint),
                  dataset_meta=_at(checkpoint, 'meta.dataset_meta'))
    if not _at(config, 'model'):
        return {}
    # As the runner chooses: never the mean of one and the std of the other.
    config['data_preprocessor'] = (_at(config, 'model.data_preprocessor')
                                   or _at(config, 'data_preprocessor'))
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
    facts.setdefault('pooling', config.get('global_pool'))
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
    for what, paths, there in (
            ('width', ('hidden_size', 'model_args.embed_dim', 'num_features'), width),
            ('number of layers', ('num_hidden_layers', 'model_args.depth'),
             len(layers)),
            ('patch size', ('patch_size', 'model_args.patch_size'), patch)):
        said = next(filter(None, (_at(config, path) for path in paths)), None)
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
