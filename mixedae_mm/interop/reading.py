"""Checkpoints of every format into one :class:`~.vit.Vit`."""
from pathlib import Path
from typing import Dict, List, Optional

from torch import Tensor

from ..models.checkpoint_configs import mm_facts
from ..models.checkpoint_names import (COLUMN_TITLES, OPTIONAL, WITHOUT_PLACE,
                                       beit_as_vit, canonical, entries, vit_prefixes)
from ..models.checkpoint_reading import read_checkpoint
from ..models.checkpoint_source import Source, source_of
from ..models.layers.relative_position_bias import TABLE
from ..utils.errors import ConfigurationError
from ..utils.messages import listed
from .description import describe
from .vit import Vit

# Files of a published folder that hold weights, the better first.
WEIGHT_FILES = ('*.safetensors', '*.pth', '*.bin')


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
    path = str(path)
    folder = Path(path).expanduser()
    checkpoint = _read_folder(folder) if folder.is_dir() else read_checkpoint(path)
    source = source_of(checkpoint, path)
    facts = dict(source.facts or mm_facts(checkpoint, path))
    if heads is not None:
        facts.update(heads=heads, width=None)  # whatever the file says
    if decoder_heads is not None:
        facts.update(decoder_heads=decoder_heads)

    found = beit_as_vit(_from_the_backbone(source), 'backbone.')
    has_table = any(name.endswith(TABLE) for name in found)
    weights: Dict[str, Tensor] = {}
    missing: List[str] = []
    for entry in entries(found, 'mm'):
        if entry.mm in found:
            weights[entry.mm] = found.pop(entry.mm)
        elif not any(part in entry.mm for part in OPTIONAL) and not (
                has_table and entry.mm == 'backbone.pos_embed'):  # a BEiT
            missing += entry.names(source.column)
    if missing:
        raise ConfigurationError(
            f'{path} does not hold a complete plain ViT; it lacks '
            f'{listed(missing, 3)}.')
    left_out = [name for name in found if WITHOUT_PLACE.match(name)]
    unknown = [name for name in found if name not in left_out]
    inside = [name for name in unknown
              if encoder_only is False or name.startswith('backbone.')]
    if inside:
        hint = ('; --encoder-only leaves out what is not the encoder\'s'
                if encoder_only is False else '')
        raise ConfigurationError(
            f'{path} has tensors without a place in a plain ViT: '
            f'{listed(inside, 3)}{hint}.')
    if facts.get('refuse'):
        raise ConfigurationError(f'{path} {facts["refuse"]}.')
    unwanted = {False: (), True: ('neck.', 'head.'), None: ('neck.', )}[encoder_only]
    if encoder_only is None and unknown:
        unwanted = ('neck.', 'head.')
    gone = [name for name in weights if unwanted and name.startswith(unwanted)]
    weights = {n: value for n, value in weights.items() if n not in gone}
    description, notes = describe(weights, facts, source)
    return Vit(description, weights, left_out + unknown + gone, notes, source)


def _from_the_backbone(source: Source) -> Dict[str, Tensor]:
    """All weights, by names of which those of the ViT begin with ``backbone.``."""
    prefixes = vit_prefixes(source.weights, 'mm')
    if 'backbone.' in prefixes:
        return {canonical(name): value for name, value in source.weights.items()}
    if '' in prefixes:  # the backbone alone was saved
        return {f'backbone.{name}': value for name, value in source.weights.items()}
    prefixes += vit_prefixes(source.weights, 'timm') + vit_prefixes(
        source.weights, 'hf')
    if not prefixes:
        raise ConfigurationError(
            f'{source.path} does not hold a ViT by the names of '
            f'{", ".join(COLUMN_TITLES.values())}.')
    raise ConfigurationError(
        f'{source.path} has its ViTs under {prefixes}; give a file that has one of '
        'them alone.')


def _read_folder(folder: Path) -> Dict[str, Tensor]:
    for pattern in WEIGHT_FILES:
        files = sorted(folder.glob(pattern))
        if not files:
            continue
        if len(files) > 1 and not all('-of-' in file.name for file in files):
            raise ConfigurationError(
                f'{folder} holds {len(files)} checkpoints '
                f'({listed([file.name for file in files], 3)}); name one of them.')
        checkpoint = read_checkpoint(str(files[0]))
        for file in files[1:]:
            checkpoint.update(read_checkpoint(str(file)))
        return checkpoint
    raise ConfigurationError(
        f'{folder} holds no checkpoint ({", ".join(WEIGHT_FILES)}).')
