"""A ViT out of a checkpoint of any format: its weights by one set of names."""
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Dict, List, Optional

from torch import Tensor, nn

from ..models import MixedAEViT
from ..models.checkpoint_channels import with_channels
from ..models.checkpoint_fitting import fit
from ..models.checkpoint_names import below
from ..models.checkpoint_source import Source
from .description import Description


@dataclass(frozen=True)
class Vit:
    """A ViT out of any format.

    Attributes:
        description (Description): Its sizes.
        weights (dict[str, Tensor]): By mmpretrain's names, with ``backbone.``,
            ``neck.`` and ``head.fc.`` in front.
        left_out (list[str]): Tensors of the file that other libraries have no
            place for.
        notes (list[str]): What was assumed because the file does not say it.
        source (Source): The file as it is.
    """
    description: Description
    weights: Dict[str, Tensor]
    left_out: List[str]
    notes: List[str]
    source: Source

    def part(self, prefix: str) -> Dict[str, Tensor]:
        """Weights whose names begin with ``prefix``, without it."""
        return below(self.weights, prefix)

    def without_decoder(self) -> 'Vit':
        """The same ViT less MAE's decoder."""
        gone = [name for name in self.weights if name.startswith('neck.')]
        kept = {name: value for name, value in self.weights.items()
                if name not in gone}
        return replace(self, description=replace(self.description, decoder=None),
                       weights=kept, left_out=self.left_out + gone)

    def with_channels(self, channels: int) -> 'Vit':
        """The same ViT for other channels, see ``models/checkpoint_channels.py``.

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
            load_part(self.head, vit.part('head.fc.'), path)
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

    def logits(self, tokens: Tensor) -> Tensor:
        """What a classifier says of ``(N, 1 + L, C)``: ``(N, num_classes)``."""
        assert self.head is not None  # where the checkpoint has a classifier
        return self.head(self.pool(tokens))


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
