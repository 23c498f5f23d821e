"""Checkpoints of every format into one :class:`~.vit.Vit`."""
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from torch import Tensor

from ..models.checkpoint_configs import mm_facts
from ..models.checkpoint_names import (COLUMN_TITLES, OPTIONAL, WITHOUT_PLACE,
                                       beit_as_vit, canonical, entries, main_prefix,
                                       vit_prefixes)
from ..models.checkpoint_reading import read_checkpoint
from ..models.checkpoint_shapes import Grid
from ..models.checkpoint_source import Source, source_of
from ..models.layers.position_embedding import recognize_sincos
from ..models.layers.relative_position_bias import (NUM_CLS_ENTRIES, TABLE,
                                                    table_grid)
from ..models.vit_sizes import SIZES
from ..utils.checks import check_number
from ..utils.errors import ConfigurationError
from ..utils.messages import listed
from .vit import Description, Stack, Vit

# Files of a published folder that hold weights, the better first.
WEIGHT_FILES = ('*.safetensors', '*.pth', '*.bin')
# Weights do not show the number of heads. These are those of the ViTs that go by
# the names small, base, large, huge, giant and so on, and of MAE's decoders.
USUAL_HEADS = {
    **{size.width: size.heads for size in SIZES.values()},
    256: 8, 512: 8, 1408: 16, 1664: 16
}
USUAL_DECODER_HEADS = {256: 8, 512: 16}
# What a classifier reads, by mmpretrain's names, timm's and ours.
POOLINGS = {'avg_featmap': 'mean', 'cls_token': 'cls', 'avg': 'mean', 'token': 'cls',
            'cls': 'cls'}
BIAS = f'backbone.layers.0.attn.rel_pos_bias.{TABLE}'


def read_vit(path: str,
             encoder_only: Optional[bool] = False,
             heads: Optional[int] = None,
             decoder_heads: Optional[int] = None,
             decoder: bool = True) -> Vit:
    """Read a ViT from a checkpoint of any known format.

    Args:
        path (str): A file of mixedae_mm, mmpretrain, mmseg, mmdet, timm,
            Hugging Face or Meta's MAE, or a folder as the last but one and
            timm publish them. What stands beside a file, in ``config.json``
            and ``preprocessor_config.json``, is read as for the folder. It
            may be an address.
        encoder_only (bool, optional): Leave out everything but the encoder. None
            leaves out the decoder, and a classifier too where something else belongs
            to it.
        heads (int, optional): Attention heads, where the file does not say.
        decoder_heads (int, optional): Likewise of the decoder.
        decoder (bool): Whether to keep MAE's decoder, if everything is kept.

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

    found, grid = _main_vit(source)
    found = beit_as_vit(found, 'backbone.')
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
    unwanted = []
    if encoder_only is not False or not decoder:
        unwanted.append('neck.')
    if encoder_only or unknown:
        unwanted.append('head.')
    gone = [name for name in weights if name.startswith(tuple(unwanted))]
    weights = {n: value for n, value in weights.items() if n not in gone}
    description, notes = describe(weights, facts, path, grid)
    return Vit(description, weights, left_out + unknown + gone, notes, source)


def _main_vit(source: Source) -> Tuple[Dict[str, Tensor], Optional[Grid]]:
    """All weights, those of the ViT below ``backbone.``, and its patch grid."""
    prefixes = vit_prefixes(source.weights, 'mm')
    start = main_prefix(prefixes)
    if start is not None:
        # What a wrapper puts before a whole model goes; a backbone that was saved
        # alone gets its name.
        is_whole = f'.{start}'.endswith('.backbone.')
        old, new = (start[:-len('backbone.')], '') if is_whole else (start, 'backbone.')
        return {
            canonical(new + name[len(old):] if name.startswith(old) else name): value
            for name, value in source.weights.items()
        }, source.grid_of(start)
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
    files = next(filter(None, (
        sorted(folder.glob(pattern)) for pattern in WEIGHT_FILES)), [])
    if not files:
        raise ConfigurationError(
            f'{folder} holds no checkpoint ({", ".join(WEIGHT_FILES)}).')
    if len(files) > 1 and not all('-of-' in file.name for file in files):
        raise ConfigurationError(
            f'{folder} holds {len(files)} checkpoints '
            f'({listed([file.name for file in files], 3)}); name one of them.')
    checkpoint = read_checkpoint(str(files[0]))
    for file in files[1:]:
        checkpoint.update(read_checkpoint(str(file)))
    return checkpoint


def describe(weights: Dict[str, Tensor], facts: Dict[str, Any], path: str,
             grid: Optional[Grid]) -> Tuple[Description, List[str]]:
    """Read the sizes off the weights, and what they do not show off ``facts``.

    Args:
        weights (dict[str, Tensor]): By mmpretrain's names.
        facts (dict): What a configuration says (``models/checkpoint_configs.py``):
            ``heads`` (and for which ``width``), ``decoder_heads``, fields of
            :class:`Description`, the ``scale`` of mean and standard deviation, and
            the library's ``usual_eps``.
        path (str): Of the file, for messages.
        grid (tuple[int, int], optional): Rows and columns of patches, if it says them.

    Returns:
        tuple[Description, list[str]]: The sizes, and a note for each value
        that had to be assumed.

    Raises:
        ConfigurationError: If the number of heads cannot be known.
    """
    notes: List[str] = []
    shape = weights['backbone.patch_embed.projection.weight'].shape  # (C, 3, P, P)
    width, in_channels, patch_size = shape[0], shape[1], shape[-1]
    heads = facts.get('heads')
    if facts.get('width') not in (None, width):  # the config is another model's
        heads = None
    encoder = _stack(weights, 'backbone.layers.', width, heads, USUAL_HEADS, '--heads',
                     path, notes)
    decoder = None
    if 'neck.decoder_embed.weight' in weights:
        decoder = _stack(
            weights, 'neck.decoder_blocks.', len(weights['neck.decoder_embed.weight']),
            facts.get('decoder_heads'), USUAL_DECODER_HEADS, '--decoder-heads',
            path, notes)
    known = {name: facts[name] for name in ('norm_eps', 'norm_pix')
             if facts.get(name) is not None}
    if 'norm_eps' not in known:
        known['norm_eps'] = facts.get('usual_eps', 1e-6)
        notes.append(f'LayerNorm with epsilon {known["norm_eps"]:g}')
    for name, what in (('mean', 'mean'), ('std', 'standard deviation')):
        if name in facts:
            scale = facts.get('scale', 1)
            known[name] = tuple(round(value * scale, 6) for value in facts[name])
        else:  # Description has ImageNet's
            notes.append(f"ImageNet's {what} of the colours")
    num_classes = len(weights.get('head.fc.weight', ()))
    known['pooling'] = POOLINGS.get(str(facts.get('pooling')), 'cls')
    if 'backbone.ln2.weight' in weights:
        known['pooling'] = 'mean'
    elif num_classes and str(facts.get('pooling')) not in POOLINGS:
        notes.append('a classifier that reads CLS')
    if len(facts.get('classes', ())) == num_classes > 0:
        known['classes'] = facts['classes']
    return Description(
        encoder=encoder,
        decoder=decoder,
        img_size=_img_size(
            weights, patch_size, facts.get('img_size'), path, grid, notes),
        patch_size=patch_size,
        in_channels=in_channels,
        qkv_bias='backbone.layers.0.attn.qkv.bias' in weights,
        layer_scale='backbone.layers.0.attn.gamma1.weight' in weights,
        relative_position_bias=BIAS in weights,
        num_classes=num_classes,
        **known), notes


def _stack(weights, prefix, width, heads, usual, option, path, notes) -> Stack:
    mlp = [value for name, value in weights.items()
           if name.startswith(prefix) and name.endswith('ffn.layers.0.0.weight')]
    if not mlp:
        raise ConfigurationError(
            f'{path} does not hold a complete plain ViT; it lacks the layers of width '
            f'{width}.')
    if heads is None:
        if width not in usual:
            raise ConfigurationError(
                f'{path} does not say how many attention heads its layers of '
                f'width {width} have; give the number with {option}.')
        heads = usual[width]
        notes.append(f'{heads} heads, as is usual for width {width}')
    check_number(
        option, heads, lambda heads: isinstance(heads, int) and heads > 0
        and width % heads == 0,
        f'be a positive integer that divides the width {width} of {path}')
    return Stack(width, len(mlp), heads, len(mlp[0]))


def _img_size(weights: Dict[str, Tensor], patch_size: int,
              given: Optional[Tuple[int, int]], path: str, grid: Optional[Grid],
              notes: List[str]) -> Tuple[int, int]:
    """Pixels; what the file says counts only where the positions agree."""
    grid = grid or (0, 0)
    if 'backbone.pos_embed' in weights:
        positions = weights['backbone.pos_embed'][:, 1:]
        num_patches, table = positions.shape[1], recognize_sincos(positions)
        rows, columns = table.grid if table else grid
    else:  # a BEiT, whose table of offsets is of a square grid if none is known
        found = table_grid(len(weights[BIAS]) - NUM_CLS_ENTRIES, grid, grid)
        if found is None:
            raise ConfigurationError(
                f'{path} has tables of {len(weights[BIAS])} position biases, '
                'which are not those of a square grid, and does not say how its '
                'patches lie.')
        rows, columns = found
        num_patches = rows * columns
    if rows * columns != num_patches:
        rows = columns = round(num_patches**0.5)
        if rows * columns != num_patches:
            raise ConfigurationError(
                f'{path} has {num_patches} positions, which do not form a '
                'square, and does not say how they lie.')
        notes.append(f'a square of {rows} x {columns} patches')
    if given and tuple(side // patch_size for side in given) == (rows, columns):
        return given
    return rows * patch_size, columns * patch_size
