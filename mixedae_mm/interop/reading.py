"""Checkpoints of every format into one :class:`~.vit.Vit`."""
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import torch
from torch import Tensor

from ..models.checkpoint_names import (BESIDE_ENCODER, COLUMN_TITLES, HF_PREFIX,
                                       LANDMARKS, OPTIONAL, WITHOUT_PLACE, canonical,
                                       entries)
from ..models.checkpoint_reading import read_checkpoint, weights_of
from ..models.checkpoint_source import noted_grids
from ..utils.errors import ConfigurationError
from .beside import json_beside, own_config
from .description import describe
from .facts import hf_facts, mm_facts, timm_facts
from .vit import Vit

# Files of a published folder that hold weights, the better first.
WEIGHT_FILES = ('*.safetensors', '*.pth', '*.bin')


class Source(NamedTuple):
    """A checkpoint as it lies on the disk.

    Attributes:
        path (str): File, folder or address.
        column (str): Whose names it uses: ``'mm'``, ``'timm'``, ``'hf'``.
        tensors (dict[str, Tensor]): All of them.
        facts (dict): What its configuration says, see
            :func:`~.description.describe`.
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
    """Read a ViT from a checkpoint of any known format.

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
            or holds tensors that the other formats have no place for.
    """
    return to_vit(read_source(path, heads, decoder_heads), encoder_only)


def read_source(path: str,
                heads: Optional[int] = None,
                decoder_heads: Optional[int] = None) -> Source:
    """Read tensors and configuration, and find out the format.

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
        grids = dict(noted_grids(checkpoint))
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


def _some(names: List[str]) -> str:
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more
