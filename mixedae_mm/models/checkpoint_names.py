"""One table: the name of every tensor of a ViT in every layout.

Loading, conversion and writing all use this table. A name that is not in it
cannot be converted.

Positions are copied like any other tensor. mmpretrain's sin-cos table has the
halves for rows and columns swapped against Meta's and Hugging Face's, but weights
learn whichever they were trained with. For another grid, the table is computed
with the halves in the order of the checkpoint (``layers/position_embedding.py``).
"""
import re
from itertools import count
from typing import (Collection, Dict, Iterable, Iterator, List, NamedTuple, Optional,
                    Sequence, Tuple)

import torch
from torch import Tensor

from .layers.relative_position_bias import TABLE

# The tensor that every ViT of a layout has, and no other part.
LANDMARKS = {
    'mm': 'patch_embed.projection.weight',
    'timm': 'patch_embed.proj.weight',
    'hf': 'embeddings.patch_embeddings.projection.weight',
}
COLUMN_TITLES = {
    'mm': 'mmpretrain',
    'timm': "timm or Meta's MAE",
    'hf': 'Hugging Face',
}
# Tensors that are not the encoder's.
BESIDE_ENCODER = {
    'timm': re.compile(r'head|decoder|mask_token|lm_head'),
    'hf': re.compile(r'(?!embeddings\.|encoder\.|layernorm\.)'),
}
# What training wrappers put before all names: DistributedDataParallel, compilation.
WRAPPERS = ('module.', '_orig_mod.')
# Of several encoders in one file, the first of these is its result: ours and DINO's,
# MoCo v3's, MoCo v2's, Hugging Face's.
MAIN_ENCODER = ('backbone.', 'base_encoder.', 'encoder_q.', 'vit.', '')

# Left, mmpretrain (mixedae_mm, mmseg, mmdet); middle, timm and Meta's MAE; right,
# Hugging Face as in files of ViTModel and ViTMAEForPreTraining. `*` is weight
# and bias. Three names are query, key and value, which the others stack in
# this order. None: Hugging Face does not have this tensor.
ENCODER = (
    ('backbone.cls_token', 'cls_token', 'embeddings.cls_token'),
    ('backbone.pos_embed', 'pos_embed', 'embeddings.position_embeddings'),
    ('backbone.patch_embed.projection.*', 'patch_embed.proj.*',
     'embeddings.patch_embeddings.projection.*'),
)
ENCODER_LAYERS = ('backbone.layers.{}.', 'blocks.{}.', 'encoder.layer.{}.')
# LayerNorm of the tokens, or (fine-tuned with averaged tokens) of their mean.
ENCODER_END = (
    ('backbone.ln1.*', 'norm.*', 'layernorm.*'),
    ('backbone.ln2.*', 'fc_norm.*', None),
    ('head.fc.*', 'head.*', 'classifier.*'),  # the classifier
)
DECODER = (
    ('neck.mask_token', 'mask_token', 'decoder.mask_token'),
    ('neck.decoder_pos_embed', 'decoder_pos_embed',
     'decoder.decoder_pos_embed'),
    ('neck.decoder_embed.*', 'decoder_embed.*', 'decoder.decoder_embed.*'),
)
DECODER_LAYERS = ('neck.decoder_blocks.{}.', 'decoder_blocks.{}.',
                  'decoder.decoder_layers.{}.')
DECODER_END = (
    ('neck.ln1.*', 'decoder_norm.*', 'decoder.decoder_norm.*'),
    ('neck.decoder_pred.*', 'decoder_pred.*', 'decoder.decoder_pred.*'),
)
# The inside of a layer, of the encoder and of the decoder.
LAYER = (
    ('ln1.*', 'norm1.*', 'layernorm_before.*'),
    ('attn.qkv.*', 'attn.qkv.*',
     ('attention.attention.query.*', 'attention.attention.key.*',
      'attention.attention.value.*')),
    ('attn.proj.*', 'attn.proj.*', 'attention.output.dense.*'),
    ('ln2.*', 'norm2.*', 'layernorm_after.*'),
    ('ffn.layers.0.0.*', 'mlp.fc1.*', 'intermediate.dense.*'),
    ('ffn.layers.1.*', 'mlp.fc2.*', 'output.dense.*'),
    # Layer scale, of DINOv2 and (by other names) of BEiT.
    ('attn.gamma1.weight', 'ls1.gamma', None),
    ('ffn.gamma2.weight', 'ls2.gamma', None),
    (f'attn.rel_pos_bias.{TABLE}', f'attn.{TABLE}', None),  # BEiT's
)
# BEiT's names of what a ViT has too, behind the name of its layer in mmpretrain.
BEIT_NAMES = (
    (r'gamma_1$', 'attn.gamma1.weight'),
    (r'gamma_2$', 'ffn.gamma2.weight'),
    (rf'attn\.{TABLE}$', f'attn.rel_pos_bias.{TABLE}'),
)

# Other spellings of the left names, (found in files, in the table).
SYNONYMS = (
    # VisionTransformerClsHead, where LinearClsHead has `fc`
    ('head.layers.head.', 'head.fc.'),
    # what transformers 5 writes for its own MAE decoder
    ('decoder.decoder_encoder.layer.', 'decoder.decoder_layers.'),
)
# Where Hugging Face puts the encoder in a model that has more than an encoder.
HF_PREFIX = 'vit.'
# Used in pre-training only, computed anew, or (Hugging Face's pooler) not for features.
WITHOUT_PLACE = re.compile(
    r'backbone\.(segment_embed|masked_embed|embeddings\.mask_token)|mask_token|'
    r'head\.projector\.|pooler\.|.*relative_position_index$')
# A plain ViT is complete without these.
OPTIONAL = ('backbone.ln1.', 'backbone.ln2.', 'head.fc.', 'attn.qkv.bias',
            'gamma1.weight', 'gamma2.weight', TABLE)


def below(weights: Dict[str, Tensor], prefix: str) -> Dict[str, Tensor]:
    """The weights whose names begin with a prefix, without it."""
    return {name[len(prefix):]: value for name, value in weights.items()
            if name.startswith(prefix)}


def vit_prefixes(names: Iterable[str], column: str) -> List[str]:
    """What stands before the names of each ViT that a file has in a column's names."""
    return prefixes_before(names, LANDMARKS[column])


def prefixes_before(names: Iterable[str], mark: str) -> List[str]:
    """What stands before a name, wherever it is: the name itself or its end.

    >>> prefixes_before(['cls_token', 'vit.cls_token', 'my_cls_token'], 'cls_token')
    ['', 'vit.']
    """
    return [name[:-len(mark)] for name in names
            if name == mark or name.endswith(f'.{mark}')]


def main_prefix(prefixes: Sequence[str],
                usual: Sequence[str] = MAIN_ENCODER) -> Optional[str]:
    """Choose one of several parts of a file: the only one, or the first usual one."""
    if len(prefixes) == 1:
        return prefixes[0]
    return next((start for start in usual if start in prefixes), None)


def to_mm_names(tensors: Dict[str, Tensor], column: str,
                prefix: str) -> Dict[str, Tensor]:
    """Give a ViT, and what surrounds it, the names that mmpretrain uses.

    Args:
        tensors (dict[str, Tensor]): In the names of ``column``.
        column (str): ``'timm'`` or ``'hf'``.
        prefix (str): What stands before the names of the ViT.

    Returns:
        dict[str, Tensor]: With ``backbone.``, ``neck.`` and ``head.fc.`` in front.
        Nothing is dropped: what the encoder has and the table has not gets
        ``backbone.`` too, the rest keeps its names.
    """
    left: Dict[str, Tensor] = {}
    beside: Dict[str, Tensor] = {}
    for name, value in tensors.items():
        inside = name.startswith(prefix)
        # Hugging Face has decoder and classifier beside the encoder.
        kept = left if inside or column == 'hf' else beside
        kept[canonical(name[len(prefix):] if inside else name)] = value
    weights = {}
    for entry in entries(set(left), column):
        names = entry.names(column)
        if names and all(name in left for name in names):
            values = [left.pop(name) for name in names]
            weights[entry.mm] = values[0] if len(values) == 1 else torch.cat(values)
    for name, value in left.items():
        if not BESIDE_ENCODER[column].match(name):
            name = 'backbone.' + re.sub(r'^blocks\.', 'layers.', name)
        weights[name] = value
    return {**beside, **weights}


def beit_as_vit(weights: Dict[str, Tensor], prefix: str = '') -> Dict[str, Tensor]:
    """Name weights of a BEiT as those of a ViT; a ViT's stay as they are.

    It is a ViT with layer scale and, in place of positions or beside them, tables of
    position biases, which layers share in pre-training. Its keys have no bias. Names
    are mmpretrain's, those of the ViT with ``prefix`` in front.
    """
    renamed = {}
    for name, value in weights.items():
        if name.startswith(f'{prefix}layers.'):
            for theirs, ours in BEIT_NAMES:
                name = re.sub(rf'(?<=\d\.){theirs}', ours, name)
        renamed[name] = value
    shared_table = renamed.pop(f'{prefix}rel_pos_bias.{TABLE}', None)
    for name in list(renamed):
        attention, _, end = name.rpartition('.attn.')
        if end == 'q_bias' and f'{attention}.attn.v_bias' in renamed:
            query, value = renamed.pop(name), renamed.pop(f'{attention}.attn.v_bias')
            renamed[f'{attention}.attn.qkv.bias'] = torch.cat(
                [query, torch.zeros_like(query), value])
        elif end == 'qkv.weight' and shared_table is not None:
            renamed[f'{attention}.attn.rel_pos_bias.{TABLE}'] = shared_table
    return renamed


class Entry(NamedTuple):
    """One tensor, by its names.

    In Hugging Face it may be three, its thirds, or none if it has no place there.
    """
    mm: str
    timm: str
    hf: Tuple[str, ...]

    def names(self, column: str) -> Tuple[str, ...]:
        """Those in ``'mm'``, ``'timm'`` or ``'hf'``."""
        value = getattr(self, column)
        return value if isinstance(value, tuple) else (value, )


def canonical(name: str) -> str:
    """A name as the table spells it."""
    for found, ours in SYNONYMS:
        if name.startswith(found):
            return ours + name[len(found):]
    return name


def entries(present: Collection[str], column: str) -> Iterator[Entry]:
    """The table for a ViT of the depth that names of a column show.

    Yields:
        Entry: Every tensor of the encoder and classifier and, if there are
        names of one, of the decoder.
    """
    yield from _rows(ENCODER)
    yield from _layers(ENCODER_LAYERS, present, column)
    yield from _rows(ENCODER_END)
    # Not by the mask token, which BEiT and DINOv2 have without a decoder.
    if any(entry.names(column)[0] in present for entry in _rows(DECODER[1:])):
        yield from _rows(DECODER)
        yield from _layers(DECODER_LAYERS, present, column)
        yield from _rows(DECODER_END)


def _layers(prefixes, present, column) -> Iterator[Entry]:
    for index in count():
        layer = [prefix.format(index) for prefix in prefixes]
        start = layer[Entry._fields.index(column)]
        if not any(name.startswith(start) for name in present):
            return
        yield from _rows(LAYER, layer)


def _rows(rows, prefixes=('', '', '')) -> Iterator[Entry]:
    for mm, timm, hf in rows:
        hf = () if hf is None else (hf, ) if isinstance(hf, str) else hf
        for kind in ('weight', 'bias') if mm.endswith('*') else ('', ):
            yield Entry(
                prefixes[0] + mm.replace('*', kind),
                prefixes[1] + timm.replace('*', kind),
                tuple(prefixes[2] + name.replace('*', kind) for name in hf))
