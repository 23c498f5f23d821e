"""What the configuration in or beside a checkpoint says about its ViT."""
import json
import posixpath
from functools import partial
from math import inf
from pathlib import Path
from typing import Any, Callable, Dict, Optional, Tuple
from urllib.parse import urlsplit, urlunsplit

from mmengine import fileio
from torch import Tensor

from ..utils.checks import check_count, check_flag, check_number
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
# What a classifier reads, by mmpretrain's names and by timm's.
POOLINGS: Dict[Optional[str], str] = {
    'avg_featmap': 'mean', 'cls_token': 'cls', 'avg': 'mean', 'token': 'cls'}


class _Config:
    """A configuration, whose values are checked as they are read.

    Args:
        values (Any): Of the file, or of a part of it; what is not a dict is empty.
        place (str): What it is, for messages.
    """

    def __init__(self, values: Any, place: str) -> None:
        self.values = values if isinstance(values, dict) else {}
        self.place = place

    def get(self, key: str, check: Callable[[str, Any], None], default: Any = None
            ) -> Any:
        """A value that a function of ``utils.checks`` allows; the default if none."""
        value = self.values.get(key)
        if value is None:
            return default
        check(f'{key} in {self.place}', value)
        return value

    def part(self, key: str) -> '_Config':
        """A part of it, such as the backbone."""
        return _Config(self.values.get(key), self.place)

    def count(self, key: str, default: Optional[int] = None) -> Optional[int]:
        return self.get(key, check_count, default)

    def positive(self, key: str, default: Optional[float] = None) -> Any:
        return self.get(key, partial(
            check_number, is_allowed=lambda number: 0 < number < inf,
            allowed='be above 0'), default)

    def size(self, key: str, default: Optional[int] = None
             ) -> Optional[Tuple[int, int]]:
        """Height and width, given as one number or two, or behind the channels."""
        value = self.values.get(key, default)
        if value is None:
            return None
        sides = value if isinstance(value, (list, tuple)) else [value] * 2
        if len(sides) != 2 and (len(sides) != 3 or key != 'input_size'):
            raise ConfigurationError(
                f'{key} in {self.place} is {value!r}, but must be one or two numbers '
                'of pixels.')
        for side in sides:
            check_count(f'{key} in {self.place}', side)
        return sides[-2], sides[-1]

    def colours(self, key: str, scale: float = 1) -> Optional[Tuple[float, ...]]:
        """Numbers of the colour channels, or one for all of them, times ``scale``."""
        values = self.values.get(key)
        if values is None:
            return None
        values = values if isinstance(values, (list, tuple)) else [values] * 3
        if len(values) == 1 and isinstance(values[0], (list, tuple)):
            values = values[0]  # how mmengine takes other numbers than one and three
        if any(isinstance(value, bool) or not isinstance(value, (int, float))
               for value in values):
            raise ConfigurationError(
                f'{key} in {self.place} is {values!r}, but must be numbers of the '
                'colours.')
        return tuple(round(value * scale, 6) for value in values)

    def classes(self, key: str) -> Optional[Tuple[str, ...]]:
        """Names, in a list or by their number."""
        names = self.values.get(key) or []
        if isinstance(names, dict) and all(str(index).isdecimal() for index in names):
            names = [names[index] for index in sorted(names, key=int)]
        if not isinstance(names, (list, tuple)):
            raise ConfigurationError(
                f'{key} in {self.place} is {names!r}, but must be a list of names, or '
                'names by number.')
        return tuple(map(str, names)) or None


def mm_facts(checkpoint: dict, path: str) -> dict:
    """What the config in a checkpoint of mmengine says, for ``interop.describe``.

    Args:
        checkpoint (dict): What was read.
        path (str): Of the checkpoint, for messages.
    """
    whole = _Config(saved_config(checkpoint), f'the config in {path}')
    model = whole.part('model')
    if not model.values:
        return {}
    backbone, neck, preprocessor = (
        model.part(name) for name in ('backbone', 'neck', 'data_preprocessor'))
    if not preprocessor.values:
        preprocessor = whole.part('data_preprocessor')
    if model.values.get('type') == 'MixedAE':  # its preprocessor's defaults
        preprocessor.values = dict(
            dict(mean=IMAGENET_MEAN, std=IMAGENET_STD), **preprocessor.values)
    arch = backbone.part('arch')
    if isinstance(name := backbone.values.get('arch', 'base'), str):
        arch.values = ARCHES.get(name.lower(), {})
    facts = dict(
        heads=arch.count('num_heads') if backbone.values else None,
        width=arch.values.get('embed_dims'),
        img_size=backbone.size('img_size', 224),
        norm_eps=backbone.part('norm_cfg').positive('eps', 1e-6),
        norm_pix=model.part('head').values.get('norm_pix'),
        mean=preprocessor.colours('mean'),
        std=preprocessor.colours('std'),
        pooling=POOLINGS.get(backbone.values.get('out_type', 'cls_token')),
        classes=_Config(checkpoint.get('meta'), f'the meta of {path}').part(
            'dataset_meta').classes('classes'))
    if neck.values:
        facts['decoder_heads'] = neck.count('decoder_num_heads', 16)
    if backbone.values.get('homologous_in_transfer'):
        facts['refuse'] = ('uses homologous attention on plain images '
                           '(homologous_in_transfer), which a plain ViT has not')
    return facts


def timm_facts(config: dict, path: str) -> dict:
    """What timm's ``config.json`` says."""
    whole = _Config(config, f'the config.json of {path}')
    arguments, pretrained = whole.part('model_args'), whole.part('pretrained_cfg')
    return dict(
        heads=arguments.count('num_heads'),
        norm_eps=1e-6 if config else None,  # of all its ViTs
        img_size=arguments.size('img_size') or pretrained.size('input_size'),
        mean=pretrained.colours('mean', 255),
        std=pretrained.colours('std', 255),
        pooling=POOLINGS.get(
            arguments.values.get('global_pool', config.get('global_pool'))),
        classes=whole.classes('label_names'))


def hf_facts(config: dict, path: str) -> dict:
    """What Hugging Face's ``config.json`` and ``preprocessor_config.json`` say."""
    whole, images = (
        _Config(values, f'the {name} of {path}') for values, name in (
            (config, 'config.json'),
            (json_beside(path, PREPROCESSOR), PREPROCESSOR)))
    # Its mean and standard deviation, times this, are those of pixels in 0..255.
    scale = 1 / images.positive('rescale_factor', 1 / 255)
    if not images.get('do_rescale', check_flag, True):
        scale = 1
    mean, std = (images.colours(f'image_{what}', scale) for what in ('mean', 'std'))
    if not images.get('do_normalize', check_flag, True):
        mean, std = (0.0, ) * 3, (scale, ) * 3
    facts = dict(
        heads=whole.count('num_attention_heads'),
        decoder_heads=whole.count('decoder_num_attention_heads'),
        img_size=whole.size('image_size'),
        # The default, which a config may leave out.
        norm_eps=whole.positive('layer_norm_eps', 1e-12 if config else None),
        usual_eps=1e-12,
        norm_pix=whole.get('norm_pix_loss', check_flag),
        mean=mean,
        std=std,
        pooling='cls',
        classes=whole.classes('id2label'))
    activation = config.get('hidden_act', 'gelu')
    if activation not in ('gelu', 'gelu_python'):
        facts['refuse'] = (f'has the activation {activation} (hidden_act), but a '
                           'plain ViT has gelu')
    return facts


def config_beside(path: str, column: str, weights: Dict[str, Tensor]) -> dict:
    """The ``config.json`` of a checkpoint; empty if it has none.

    Args:
        path (str): File, folder or address of the checkpoint.
        column (str): Whose names it uses: ``'timm'`` or ``'hf'``.
        weights (dict[str, Tensor]): By mmpretrain's names.

    Raises:
        ConfigurationError: As :func:`json_beside`, also if it is another model's.
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
    projection = weights['backbone.patch_embed.projection.weight']
    layers = {name.split('.')[2] for name in weights
              if name.startswith('backbone.layers.')}
    arguments = _Config(config.get('model_args'), '').values
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
