"""The sizes of a ViT, read off its weights and its configuration."""
from dataclasses import dataclass
from typing import Dict, List, Optional, Tuple

from torch import Tensor

from ..models.checkpoint_source import Source
from ..models.layers.position_embedding import recognize_sincos
from ..models.layers.relative_position_bias import (NUM_CLS_ENTRIES, TABLE,
                                                    table_grid)
from ..models.mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD
from ..models.vit_sizes import SIZES
from ..utils.checks import check_count
from ..utils.errors import ConfigurationError

# Weights do not show the number of heads. These are those of the ViTs that go by
# the names small, base, large, huge, giant and so on, and of MAE's decoders.
USUAL_HEADS = {
    **{size.width: size.heads for size in SIZES.values()},
    256: 8, 512: 8, 1408: 16, 1664: 16
}
USUAL_DECODER_HEADS = {256: 8, 512: 16}
BIAS = f'backbone.layers.0.attn.rel_pos_bias.{TABLE}'


@dataclass(frozen=True)
class Stack:
    """A stack of transformer layers.

    Attributes:
        width (int): Channels of a token.
        depth (int): Layers.
        heads (int): Attention heads of a layer.
        mlp_width (int): Channels inside the MLP of a layer.
    """
    width: int
    depth: int
    heads: int
    mlp_width: int

    def __str__(self) -> str:
        return (f'{self.depth} layers of width {self.width} with {self.heads} '
                'heads')


@dataclass(frozen=True)
class Description:
    """Sizes of a ViT, and how images are made ready for it.

    Attributes:
        encoder (Stack): The encoder.
        decoder (Stack, optional): MAE's decoder.
        img_size (tuple[int, int]): Height and width in pixels.
        patch_size (int): Side of a patch in pixels.
        in_channels (int): Colour channels.
        qkv_bias (bool): Whether queries, keys and values have a bias.
        layer_scale (bool): Whether layers have a scale per channel, as DINOv2's.
        relative_position_bias (bool): Whether layers have BEiT's.
        norm_eps (float): Epsilon of every LayerNorm.
        norm_pix (bool): Whether the decoder predicts normalised patches.
        num_classes (int): Of the classifier; 0 without one.
        pooling (str): What a classifier reads: ``'cls'``, or ``'mean'`` of
            the patch tokens.
        classes (tuple[str]): Their names, if they are known.
        mean (tuple[float]): Of the colour channels RGB, in 0..255.
        std (tuple[float]): Likewise.
    """
    encoder: Stack
    decoder: Optional[Stack]
    img_size: Tuple[int, int]
    patch_size: int
    in_channels: int = 3
    qkv_bias: bool = True
    layer_scale: bool = False
    relative_position_bias: bool = False
    norm_eps: float = 1e-6
    norm_pix: bool = True
    num_classes: int = 0
    pooling: str = 'cls'
    classes: Tuple[str, ...] = ()
    mean: Tuple[float, ...] = IMAGENET_MEAN
    std: Tuple[float, ...] = IMAGENET_STD

    @property
    def grid(self) -> Tuple[int, int]:
        """Rows and columns of patches."""
        height, width = self.img_size
        return height // self.patch_size, width // self.patch_size

    def __str__(self) -> str:
        height, width = self.img_size
        text = (f'ViT of {self.encoder}, patch {self.patch_size}, '
                f'{height} x {width} pixels')
        if self.decoder:
            text += f'; decoder of {self.decoder}'
        if self.num_classes:
            text += f'; classifier of {self.num_classes} classes ({self.pooling})'
        return text


def describe(weights: Dict[str, Tensor], facts: dict, source: Source):
    """Read the sizes off the weights, and what they do not show off ``facts``.

    Args:
        weights (dict[str, Tensor]): By mmpretrain's names.
        facts (dict): What a configuration says: ``heads`` (and for which
            ``width``), ``decoder_heads``, ``img_size`` and any field of
            :class:`Description`. ``usual_eps`` is the library's own epsilon,
            taken where ``norm_eps`` is missing.
        source (Source): The file, which may say the patch grid.

    Returns:
        tuple[Description, list[str]]: The sizes, and a note for each value
        that had to be assumed.

    Raises:
        ConfigurationError: If the number of heads cannot be known.
    """
    notes: List[str] = []
    path = source.path
    projection = weights['backbone.patch_embed.projection.weight']
    patch_size = projection.shape[-1]
    width = projection.shape[0]
    if facts.get('width') not in (None, width):  # the config is another model's
        facts = dict(facts, heads=None)
    encoder = _stack(weights, 'backbone.layers.', width, facts.get('heads'),
                     USUAL_HEADS, '--heads', path, notes)
    decoder = None
    if 'neck.decoder_embed.weight' in weights:
        decoder = _stack(
            weights, 'neck.decoder_blocks.',
            weights['neck.decoder_embed.weight'].shape[0],
            facts.get('decoder_heads'), USUAL_DECODER_HEADS,
            '--decoder-heads', path, notes)
    known = {
        name: facts[name]
        for name in ('norm_eps', 'norm_pix', 'mean', 'std', 'pooling')
        if facts.get(name) is not None
    }
    if 'norm_eps' not in known:
        known['norm_eps'] = facts.get('usual_eps', 1e-6)
        notes.append(f'LayerNorm with epsilon {known["norm_eps"]:g}')
    for name, what in (('mean', 'mean'), ('std', 'standard deviation')):
        if name not in known:  # Description has ImageNet's
            notes.append(f"ImageNet's {what} of the colours")
    num_classes = len(weights.get('head.fc.weight', ()))
    if 'backbone.ln2.weight' in weights:
        known['pooling'] = 'mean'
    elif num_classes and 'pooling' not in known:
        notes.append('a classifier that reads CLS')
    if len(facts.get('classes') or ()) == num_classes > 0:
        known['classes'] = facts['classes']
    return Description(
        encoder=encoder,
        decoder=decoder,
        img_size=_img_size(weights, patch_size, facts.get('img_size'), source, notes),
        patch_size=patch_size,
        in_channels=projection.shape[1],
        qkv_bias='backbone.layers.0.attn.qkv.bias' in weights,
        layer_scale='backbone.layers.0.attn.gamma1.weight' in weights,
        relative_position_bias=BIAS in weights,
        num_classes=num_classes,
        **known), notes


def _stack(weights, prefix, width, heads, usual, option, path, notes) -> Stack:
    mlp = [
        value for name, value in weights.items()
        if name.startswith(prefix) and name.endswith('ffn.layers.0.0.weight')
    ]
    if heads is None:
        if width not in usual:
            raise ConfigurationError(
                f'{path} does not say how many attention heads its layers of '
                f'width {width} have; give the number with {option}.')
        heads = usual[width]
        notes.append(f'{heads} heads, as is usual for width {width}')
    check_count(option, heads)
    if width % heads:
        raise ConfigurationError(
            f'{option} is {heads}, but must divide the width {width} of '
            f'{path}.')
    return Stack(width, len(mlp), heads, len(mlp[0]))


def _img_size(weights: Dict[str, Tensor], patch_size: int,
              given: Optional[Tuple[int, int]], source: Source, notes: List[str]
              ) -> Tuple[int, int]:
    """Pixels; what the file says counts only where the positions agree."""
    grid = source.grid_of('backbone.') or (0, 0)
    if 'backbone.pos_embed' in weights:
        positions = weights['backbone.pos_embed'][:, 1:]
        num_patches, table = positions.shape[1], recognize_sincos(positions)
        rows, columns = table.grid if table else grid
    else:  # a BEiT, whose table of offsets is of a square grid if none is known
        found = table_grid(len(weights[BIAS]) - NUM_CLS_ENTRIES, grid, grid)
        if found is None:
            raise ConfigurationError(
                f'{source.path} has tables of {len(weights[BIAS])} position biases, '
                'which are not those of a square grid, and does not say how its '
                'patches lie.')
        rows, columns = found
        num_patches = rows * columns
    if rows * columns != num_patches:
        rows = columns = round(num_patches**0.5)
        if rows * columns != num_patches:
            raise ConfigurationError(
                f'{source.path} has {num_patches} positions, which do not form a '
                'square, and does not say how they lie.')
        notes.append(f'a square of {rows} x {columns} patches')
    if given and tuple(side // patch_size for side in given) == (rows, columns):
        return given
    return rows * patch_size, columns * patch_size
