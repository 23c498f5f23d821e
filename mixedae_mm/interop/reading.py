"""Checkpoints of every layout into one :class:`~.vit.Vit`."""
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import torch
from mmpretrain.models import VisionTransformer
from torch import Tensor

from ..models.checkpoint_loading import noted_grids
from ..models.checkpoint_names import (BESIDE_ENCODER, COLUMN_TITLES, HF_PREFIX,
                                       LANDMARKS, OPTIONAL, WITHOUT_PLACE, canonical,
                                       entries)
from ..models.checkpoint_reading import literal_config, read_checkpoint, weights_of
from ..models.mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from ..utils.errors import ConfigurationError
from .beside import json_beside, own_config
from .vit import Vit, describe

# Files of a published folder that hold weights, the better first.
WEIGHT_FILES = ('*.safetensors', '*.pth', '*.bin')


class Source(NamedTuple):
    """A checkpoint as it lies on the disk.

    Attributes:
        path (str): File, folder or address.
        column (str): Whose names it uses: ``'mm'``, ``'timm'``, ``'hf'``.
        tensors (dict[str, Tensor]): All of them.
        facts (dict): What its configuration says, see
            :func:`~.vit.describe`.
        config (dict): The ``config.json`` that belongs to it, or empty.
    """
    path: str
    column: str
    tensors: Dict[str, Tensor]
    facts: dict
    config: dict


def read_vit(path: str,
             encoder_only: Optional[bool] = False,
             heads: Optional[int] = None,
             decoder_heads: Optional[int] = None) -> Vit:
    """Read a ViT from a checkpoint of any known layout.

    Args:
        path (str): A file of mixedae_mm, mmpretrain, mmseg, mmdet, timm,
            Hugging Face or Meta's MAE, or a folder as the last but one and
            timm publish them. What stands beside a file, in ``config.json``
            and ``preprocessor_config.json``, is read as for the folder. It
            may be an address.
        encoder_only (bool, optional): Leave out everything but the encoder,
            whatever it is. None leaves out the decoder, and a classifier too
            where something else belongs to it.
        heads (int, optional): Attention heads, where the file does not say.
        decoder_heads (int, optional): Likewise of the decoder.

    Returns:
        Vit: Sizes and weights.

    Raises:
        ConfigurationError: If the path is something else, would execute code,
            or holds tensors that the other layouts have no place for.
    """
    return to_vit(read_source(path, heads, decoder_heads), encoder_only)


def read_source(path: str,
                heads: Optional[int] = None,
                decoder_heads: Optional[int] = None) -> Source:
    """Read tensors and configuration, and find out the layout.

    Arguments and errors are those of :func:`read_vit`.
    """
    path = str(path)
    folder = Path(path).expanduser()
    checkpoint = _read_folder(folder) if folder.is_dir() else read_checkpoint(path)
    tensors = weights_of(checkpoint, path)
    found = [
        column for column, landmark in LANDMARKS.items()
        if any(name.endswith(landmark) for name in tensors)
    ]
    if not found:
        raise ConfigurationError(
            f'{path} does not hold a ViT by the names of '
            f'{", ".join(COLUMN_TITLES.values())}.')
    column, config = found[0], {}
    if column == 'mm':
        facts = mm_facts(checkpoint.get('meta'))
        grids = dict(noted_grids(checkpoint, tensors))
        grid = grids.get('backbone', grids.get(''))
        if grid and 'img_size' not in facts:
            patch_size = next(value.shape[-1] for name, value in tensors.items()
                              if name.endswith(LANDMARKS['mm']))
            facts['img_size'] = tuple(side * patch_size for side in grid)
    else:
        projection = next(value for name, value in tensors.items()
                          if name.endswith(LANDMARKS[column]))
        config = own_config(path, column, projection, tensors)
        facts = (timm_facts(config) if column == 'timm' else hf_facts(
            config, json_beside(path, 'preprocessor_config.json')))
    if heads is not None:
        facts.update(heads=heads, width=None)  # whatever the file says
    if decoder_heads is not None:
        facts.update(decoder_heads=decoder_heads)
    return Source(path, column, tensors, facts, config)


def to_vit(source: Source, encoder_only: Optional[bool] = False) -> Vit:
    """Give every tensor its mmpretrain name; see :func:`read_vit`."""
    tensors = _canonical_spelling(source)
    weights: Dict[str, Tensor] = {}
    missing: List[str] = []
    for entry in entries(tensors, source.column):
        names = entry.names(source.column)
        there = [name for name in names if name in tensors]
        if names and len(there) == len(names):
            values = [tensors.pop(name) for name in names]
            weights[entry.mm] = values[0] if len(values) == 1 else torch.cat(values)
        elif there or not any(part in entry.mm for part in OPTIONAL):
            missing += [name for name in names if name not in there]
    if missing:
        raise ConfigurationError(
            f'{source.path} does not hold a complete plain ViT; it lacks '
            f'{_some(missing)}.')
    left_out = [name for name in tensors if name.startswith(WITHOUT_PLACE)]
    unknown = [name for name in tensors if name not in left_out]
    inside = [
        name for name in unknown if encoder_only is False
        or not BESIDE_ENCODER[source.column].match(name)
    ]
    if inside:
        hint = ('; --encoder-only leaves out what is not the encoder\'s'
                if encoder_only is False else '')
        raise ConfigurationError(
            f'{source.path} has tensors without a place in a plain ViT: '
            f'{_some(inside)}{hint}.')
    if source.facts.get('refuse'):
        raise ConfigurationError(f'{source.path} {source.facts["refuse"]}.')
    unwanted = {False: (), True: ('neck.', 'head.'), None: ('neck.', )}[encoder_only]
    if encoder_only is None and unknown:
        unwanted = ('neck.', 'head.')
    gone = [name for name in weights if unwanted and name.startswith(unwanted)]
    weights = {n: value for n, value in weights.items() if n not in gone}
    description, notes = describe(weights, source.facts, source.path)
    return Vit(description, weights, left_out + unknown + gone, notes)


def mm_facts(meta) -> dict:
    """What ``meta`` in a checkpoint of mmengine says.

    Args:
        meta (dict | None): Its ``cfg`` is the text of a config. It is parsed
            as literals; nothing in it is executed.
    """
    meta = meta if isinstance(meta, dict) else {}
    config = meta.get('cfg')
    if isinstance(config, str):
        config = literal_config(config)
    if not isinstance(config, dict) or not isinstance(config.get('model'), dict):
        return {}
    model = config['model']
    backbone = model.get('backbone') or {}
    neck = model.get('neck') if isinstance(model.get('neck'), dict) else {}
    head = model.get('head') if isinstance(model.get('head'), dict) else {}
    preprocessor = (
        model.get('data_preprocessor') or config.get('data_preprocessor') or {})
    if model.get('type') == 'MixedAE':  # whose preprocessor has these by default
        preprocessor = dict(dict(mean=IMAGENET_MEAN, std=IMAGENET_STD), **preprocessor)
    arch = backbone.get('arch', 'base')
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo.get(arch.lower(), {})
    norm = backbone.get('norm_cfg') or {}
    facts = dict(
        heads=arch.get('num_heads') if backbone else None,
        width=arch.get('embed_dims'),
        img_size=backbone.get('img_size', 224),
        norm_eps=norm.get('eps', 1e-6),
        norm_pix=head.get('norm_pix'),
        mean=_colours(preprocessor.get('mean')),
        std=_colours(preprocessor.get('std')),
        pooling={'avg_featmap': 'mean', 'cls_token': 'cls'}.get(
            backbone.get('out_type', 'cls_token')),
        classes=_classes((meta.get('dataset_meta') or {}).get('classes')))
    if neck:
        facts['decoder_heads'] = neck.get('decoder_num_heads', 16)
    if backbone.get('homologous_in_transfer'):
        facts['refuse'] = ('uses homologous attention on plain images '
                           '(homologous_in_transfer), which a plain ViT has not')
    return facts


def timm_facts(config: dict) -> dict:
    """What timm's ``config.json`` says."""
    arguments = config.get('model_args') or {}
    pretrained = config.get('pretrained_cfg') or {}
    img_size = arguments.get('img_size') or (
        pretrained.get('input_size') or [None] * 3)[1:]
    return dict(
        heads=arguments.get('num_heads'),
        norm_eps=1e-6 if config else None,  # of all its ViTs
        img_size=img_size if img_size != [None, None] else None,
        mean=_colours(pretrained.get('mean'), 255),
        std=_colours(pretrained.get('std'), 255),
        pooling={'avg': 'mean', 'token': 'cls'}.get(
            arguments.get('global_pool', config.get('global_pool'))),
        classes=_classes(config.get('label_names')))


def hf_facts(config: dict, preprocessor: dict) -> dict:
    """What Hugging Face's ``config.json`` and ``preprocessor_config.json`` say."""
    facts = dict(
        heads=config.get('num_attention_heads'),
        decoder_heads=config.get('decoder_num_attention_heads'),
        img_size=config.get('image_size'),
        # The default, which a config may leave out.
        norm_eps=config.get('layer_norm_eps', 1e-12) if config else None,
        usual_eps=1e-12,
        norm_pix=config.get('norm_pix_loss'),
        mean=_colours(preprocessor.get('image_mean'), 255),
        std=_colours(preprocessor.get('image_std'), 255),
        pooling='cls',
        classes=_classes(config.get('id2label')))
    if preprocessor.get('do_normalize') is False:
        facts.update(mean=(0.0, ) * 3, std=(255.0, ) * 3)
    activation = config.get('hidden_act', 'gelu')
    if activation not in ('gelu', 'gelu_python'):
        facts['refuse'] = (f'has the activation {activation} (hidden_act), but a '
                           'plain ViT has gelu')
    return facts


def _read_folder(folder: Path) -> Dict[str, Tensor]:
    for pattern in WEIGHT_FILES:
        files = sorted(folder.glob(pattern))
        if not files:
            continue
        if len(files) > 1 and not all('-of-' in file.name for file in files):
            raise ConfigurationError(
                f'{folder} holds {len(files)} checkpoints '
                f'({_some([file.name for file in files])}); name one of them.')
        checkpoint: dict = {}
        for file in files:
            checkpoint.update(read_checkpoint(str(file)))
        return checkpoint
    raise ConfigurationError(
        f'{folder} holds no checkpoint ({", ".join(WEIGHT_FILES)}).')


def _canonical_spelling(source: Source) -> Dict[str, Tensor]:
    """Names as the table has them: synonyms and prefixes resolved."""
    prefix = ''
    landmark = LANDMARKS[source.column]
    prefixes = [
        name[:-len(landmark)] for name in source.tensors
        if name.endswith(landmark)
    ]
    allowed = {'mm': ('backbone.', ''), 'timm': ('', ), 'hf': (HF_PREFIX, '')}
    chosen = [p for p in allowed[source.column] if p in prefixes]
    if not chosen:
        raise ConfigurationError(
            f'{source.path} has its ViT under {prefixes}, which is not where '
            f'{COLUMN_TITLES[source.column]} has it.')
    if source.column == 'mm' and chosen[0] == '':
        prefix = 'backbone.'  # the backbone alone was saved
    tensors = {}
    for name, value in source.tensors.items():
        name = prefix + name
        if source.column == 'hf' and name.startswith(HF_PREFIX):
            name = name[len(HF_PREFIX):]
        tensors[canonical(name)] = value
    return tensors


def _colours(values, scale: float = 1) -> Optional[tuple]:
    if isinstance(values, (int, float)):  # Hugging Face: one for all channels
        values = [values] * 3
    return tuple(round(value * scale, 6) for value in values) if values else None


def _classes(names) -> Optional[tuple]:
    if isinstance(names, dict):  # Hugging Face: {'0': name, ...}
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(map(str, names)) if names else None


def _some(names: List[str]) -> str:
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more
