"""A ViT out of a checkpoint of any format: its weights by one set of names."""
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Dict, List, NamedTuple, Optional, Tuple

from torch import Tensor, nn

from ..models import MixedAEViT
from ..models.checkpoint_fitting import fit
from ..models.checkpoint_names import below
from ..models.checkpoint_shapes import with_channels
from ..models.checkpoint_source import Source
from ..models.mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD

# Two libraries differ only in the order of sums. A wrong weight, number of heads or
# epsilon changes features, which are of order 1, by far more than this.
LARGEST_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Stack:
    """A stack of transformer layers."""
    width: int  # channels of a token
    depth: int
    heads: int  # of a layer
    mlp_width: int  # channels inside the MLP of a layer

    def __str__(self) -> str:
        return f'{self.depth} layers of width {self.width} with {self.heads} heads'


@dataclass(frozen=True)
class Description:
    """Sizes of a ViT, and how images are made ready for it."""
    encoder: Stack
    decoder: Optional[Stack]  # MAE's
    img_size: Tuple[int, int]  # height and width in pixels
    patch_size: int  # side in pixels
    in_channels: int = 3
    qkv_bias: bool = True  # of queries, keys and values
    layer_scale: bool = False  # a scale per channel in every layer, as DINOv2's
    relative_position_bias: bool = False  # BEiT's
    norm_eps: float = 1e-6  # of every LayerNorm
    norm_pix: bool = True  # whether the decoder predicts normalised patches
    num_classes: int = 0  # of the classifier; 0 without one
    pooling: str = 'cls'  # what a classifier reads, or 'mean' of the patch tokens
    classes: Tuple[str, ...] = ()  # their names, if they are known
    mean: Tuple[float, ...] = IMAGENET_MEAN  # of the channels, of RGB in 0..255
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


@dataclass(frozen=True)
class Vit:
    """A ViT out of any format."""
    description: Description
    weights: Dict[str, Tensor]  # mmpretrain's names after backbone., neck., head.fc.
    left_out: List[str]  # tensors of the file that other libraries have no place for
    notes: List[str]  # what was assumed because the file does not say it
    source: Source  # the file as it is

    def with_channels(self, channels: int) -> 'Vit':
        """The same ViT for other channels, see ``models/checkpoint_shapes.py``.

        Mean and standard deviation of each are the averages over those of now.
        """
        weights = dict(self.weights)
        with_channels(weights, channels)
        sizes = self.description
        mean, std = (tuple([round(fmean(values), 6)] * channels)
                     for values in (sizes.mean, sizes.std))
        note = (f'{channels} channels instead of {sizes.in_channels}, each with the '
                'average mean and standard deviation')
        return replace(
            self, weights=weights, notes=[*self.notes, note],
            description=replace(sizes, in_channels=channels, mean=mean, std=std))


class PlainViT(nn.Module):
    """A ViT to run: our backbone, and what follows it in a classifier.

    Raises:
        ConfigurationError: If shapes of the weights disagree.
    """

    def __init__(self, vit: Vit, path: str = 'The checkpoint') -> None:
        super().__init__()
        sizes, encoder = vit.description, vit.description.encoder
        self.description = sizes
        weights = below(vit.weights, 'backbone.')
        pooled_norm = {name: weights.pop(f'ln2.{name}')
                       for name in below(weights, 'ln2.')}
        self.backbone = MixedAEViT(
            **backbone_config(vit),
            relative_position_bias=sizes.relative_position_bias)
        load_part(self.backbone, weights, path)
        self.pooled_norm: nn.Module = nn.Identity()
        if pooled_norm:
            self.pooled_norm = nn.LayerNorm(encoder.width, sizes.norm_eps)
            load_part(self.pooled_norm, pooled_norm, path)
        self.head: Optional[nn.Module] = None
        if sizes.num_classes:
            self.head = nn.Linear(encoder.width, sizes.num_classes)
            load_part(self.head, below(vit.weights, 'head.fc.'), path)
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images ``(N, 3, H, W)`` to tokens ``(N, 1 + L, C)``."""
        return self.backbone(images)[-1]

    def pool(self, tokens: Tensor, pooling: Optional[str] = None) -> Tensor:
        """One vector per image, ``(N, C)``, of tokens ``(N, 1 + L, C)``.

        ``pooling`` is ``'cls'``, ``'mean'``, or None for what the classifier reads.
        """
        if (pooling or self.description.pooling) == 'cls':
            return tokens[:, 0]
        return self.pooled_norm(tokens[:, 1:].mean(dim=1))

    def logits(self, tokens: Tensor) -> Tensor:
        """What a classifier says of ``(N, 1 + L, C)``: ``(N, num_classes)``."""
        assert self.head is not None  # where the checkpoint has a classifier
        return self.head(self.pool(tokens))


class Comparison(NamedTuple):
    """One output of a model before and after it was written in another way."""
    name: str  # of the output, or of the size it was computed at
    difference: float  # largest absolute one
    largest: float  # absolute value, for comparison

    def is_small(self) -> bool:
        """Whether the two are the same but for rounding; False for NaN."""
        return self.difference <= LARGEST_DIFFERENCE * max(1, self.largest)

    def __str__(self) -> str:
        return f'{self.name} {self.difference:.1e} (values to {self.largest:.2g})'


def backbone_config(vit: Vit) -> dict:
    """Arguments of ``VisionTransformer`` for the encoder, giving all tokens."""
    sizes, encoder = vit.description, vit.description.encoder
    return dict(
        arch=dict(embed_dims=encoder.width, num_layers=encoder.depth,
                  num_heads=encoder.heads, feedforward_channels=encoder.mlp_width),
        img_size=sizes.img_size, patch_size=sizes.patch_size,
        in_channels=sizes.in_channels,
        qkv_bias=sizes.qkv_bias,
        layer_scale_init_value=float(sizes.layer_scale),
        norm_cfg=dict(type='LN', eps=sizes.norm_eps),
        final_norm='backbone.ln1.weight' in vit.weights,
        out_type='raw')


def load_part(module: nn.Module, weights: Dict[str, Tensor], path: str) -> None:
    """Load all weights of a part, or say in one sentence why they do not fit."""
    grid = getattr(module, 'patch_resolution', None)  # that of the description
    fit(module, weights, path, grid and tuple(grid))
    state = module.state_dict()  # notes the grid, too
    state.update(weights)
    module.load_state_dict(state)
