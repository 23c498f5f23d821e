"""What all layouts hold: the sizes of a ViT, and its weights by one set of names."""
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Dict, List, Optional, Tuple

from torch import Tensor, nn

from ..utils.errors import ConfigurationError
from ..models import MixedAEViT
from ..models.checkpoint_fitting import fit
from ..models.mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD

# Weights do not show the number of heads. These are those of the ViTs that go by
# the names small, base, large, huge, giant and so on, and of MAE's decoders.
USUAL_HEADS = {
    192: 3, 256: 8, 384: 6, 512: 8, 768: 12, 1024: 16, 1280: 16, 1408: 16,
    1664: 16
}
USUAL_DECODER_HEADS = {256: 8, 512: 16}


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
    """Sizes of a ViT, and how pictures are made ready for it.

    Attributes:
        encoder (Stack): The encoder.
        decoder (Stack, optional): MAE's decoder.
        img_size (tuple[int, int]): Height and width in pixels.
        patch_size (int): Side of a patch in pixels.
        in_channels (int): Colour channels.
        qkv_bias (bool): Whether queries, keys and values have a bias.
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
    norm_eps: float = 1e-6
    norm_pix: bool = True
    num_classes: int = 0
    pooling: str = 'cls'
    classes: Tuple[str, ...] = ()
    mean: Tuple[float, ...] = IMAGENET_MEAN
    std: Tuple[float, ...] = IMAGENET_STD

    def __str__(self) -> str:
        height, width = self.img_size
        text = (f'ViT of {self.encoder}, patch {self.patch_size}, '
                f'{height} x {width} pixels')
        if self.decoder:
            text += f'; decoder of {self.decoder}'
        if self.num_classes:
            text += f'; classifier of {self.num_classes} classes ({self.pooling})'
        return text


@dataclass(frozen=True)
class Vit:
    """A ViT out of any layout.

    Attributes:
        description (Description): Its sizes.
        weights (dict[str, Tensor]): By mmpretrain's names, with ``backbone.``,
            ``neck.`` and ``head.fc.`` in front.
        left_out (list[str]): Tensors of the file that other libraries have no
            place for.
        notes (list[str]): What was assumed because the file does not say it.
    """
    description: Description
    weights: Dict[str, Tensor]
    left_out: List[str] = field(default_factory=list)
    notes: List[str] = field(default_factory=list)

    def part(self, prefix: str) -> Dict[str, Tensor]:
        """Weights whose names begin with ``prefix``, without it."""
        return {
            name[len(prefix):]: value
            for name, value in self.weights.items() if name.startswith(prefix)
        }

    def without(self, *prefixes: str) -> 'Vit':
        """The same ViT less the parts that begin with the prefixes."""
        gone = [name for name in self.weights if name.startswith(prefixes)]
        sizes = {}
        if any(name.startswith('neck.') for name in gone):
            sizes['decoder'] = None
        if any(name.startswith('head.') for name in gone):
            sizes.update(num_classes=0, classes=())
        return replace(
            self,
            description=replace(self.description, **sizes),
            weights={
                name: value
                for name, value in self.weights.items() if name not in gone
            },
            left_out=self.left_out + gone)


def describe(weights: Dict[str, Tensor], facts: dict, path: str):
    """Read the sizes off the weights, and what they do not show off ``facts``.

    Args:
        weights (dict[str, Tensor]): By mmpretrain's names.
        facts (dict): What a configuration says: ``heads`` (and for which
            ``width``), ``decoder_heads``, ``img_size`` and any field of
            :class:`Description`. ``usual_eps`` is the library's own epsilon,
            taken where ``norm_eps`` is missing.
        path (str): For messages.

    Returns:
        tuple[Description, list[str]]: The sizes, and a note for each value
        that had to be assumed.

    Raises:
        ConfigurationError: If the number of heads cannot be known.
    """
    notes: List[str] = []
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
        img_size=_img_size(weights['backbone.pos_embed'].shape[1] - 1,
                           patch_size, facts.get('img_size'), path, notes),
        patch_size=patch_size,
        in_channels=projection.shape[1],
        qkv_bias='backbone.layers.0.attn.qkv.bias' in weights,
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
    if heads < 1 or width % heads:
        raise ConfigurationError(
            f'{option} is {heads}, but must divide the width {width} of '
            f'{path}.')
    return Stack(width, len(mlp), heads, len(mlp[0]))


def _img_size(num_patches, patch_size, given, path, notes) -> Tuple[int, int]:
    """Pixels; the given size counts only where the positions agree."""
    if given is not None:
        given = (given, given) if isinstance(given, int) else tuple(given)
        if (given[0] // patch_size) * (given[1] // patch_size) == num_patches:
            return given
    side = round(num_patches**0.5)
    if side * side != num_patches:
        raise ConfigurationError(
            f'{path} has {num_patches} positions, which do not form a square, and '
            'does not say how they lie.')
    notes.append(f'a square of {side} x {side} patches')
    return side * patch_size, side * patch_size


class PlainViT(nn.Module):
    """A ViT to run: our backbone, and what follows it in a classifier.

    Args:
        vit (Vit): Sizes and weights.

    Raises:
        ConfigurationError: If shapes of the weights disagree.
    """

    def __init__(self, vit: Vit, path: str = 'The checkpoint') -> None:
        super().__init__()
        sizes, encoder = vit.description, vit.description.encoder
        self.description = sizes
        weights = vit.part('backbone.')
        pooled_norm = {
            name: weights.pop(f'ln2.{name}')
            for name in ('weight', 'bias') if f'ln2.{name}' in weights
        }
        self.backbone = MixedAEViT(**backbone_config(vit))
        load(self.backbone, weights, path)
        self.pooled_norm: nn.Module = nn.Identity()
        if pooled_norm:
            self.pooled_norm = nn.LayerNorm(encoder.width, sizes.norm_eps)
            load(self.pooled_norm, pooled_norm, path)
        self.head: Optional[nn.Module] = None
        if sizes.num_classes:
            self.head = nn.Linear(encoder.width, sizes.num_classes)
            load(self.head, vit.part('head.fc.'), path)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(N, 3, H, W)`` to tokens ``(N, 1 + L, C)``."""
        return self.backbone(images)[-1]

    def pool(self, tokens: Tensor, pooling: Optional[str] = None) -> Tensor:
        """One vector per image, ``(N, C)``.

        Args:
            tokens (Tensor): ``(N, 1 + L, C)``, CLS first.
            pooling (str, optional): ``'cls'`` or ``'mean'``. Defaults to what
                the classifier reads.
        """
        if (pooling or self.description.pooling) == 'cls':
            return tokens[:, 0]
        return self.pooled_norm(tokens[:, 1:].mean(dim=1))

    def classify(self, images: Tensor) -> Tensor:
        """Normalised images to logits ``(N, num_classes)``."""
        return self.head(self.pool(self(images)))


def backbone_config(vit: Vit) -> dict:
    """Arguments of ``VisionTransformer`` for the encoder, giving all tokens."""
    sizes, encoder = vit.description, vit.description.encoder
    return dict(
        arch=dict(
            embed_dims=encoder.width,
            num_layers=encoder.depth,
            num_heads=encoder.heads,
            feedforward_channels=encoder.mlp_width),
        img_size=sizes.img_size,
        patch_size=sizes.patch_size,
        in_channels=sizes.in_channels,
        qkv_bias=sizes.qkv_bias,
        norm_cfg=dict(type='LN', eps=sizes.norm_eps),
        final_norm='backbone.ln1.weight' in vit.weights,
        out_type='raw')


def load(module: nn.Module, weights: Dict[str, Tensor], path: str) -> None:
    """Load all weights of a part, or say in one sentence why they do not fit."""
    grid = getattr(module, 'patch_resolution', None)  # that of the description
    fit(module, weights, path, grid and tuple(grid))
    fitted = OrderedDict(weights)
    fitted._metadata = module.state_dict()._metadata  # says the grid, too
    module.load_state_dict(fitted)
