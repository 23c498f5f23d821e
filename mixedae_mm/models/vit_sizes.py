"""Sizes of Vision Transformers by name, in one table."""
from typing import Dict, NamedTuple, Tuple

from mmpretrain.models import VisionTransformer


class Size(NamedTuple):
    """A size of the literature, of any patch size."""
    width: int  # channels of a token; the MLP has four times as many
    depth: int
    heads: int
    timm: str  # what timm calls it
    patches: Tuple[int, ...]  # that timm has a name for

    @property
    def arch(self) -> Dict[str, int]:
        """``arch`` of a ``VisionTransformer`` of mmpretrain."""
        return dict(embed_dims=self.width, num_layers=self.depth,
                    num_heads=self.heads, feedforward_channels=4 * self.width)


SIZES = {
    'vit-ti': Size(192, 12, 3, 'tiny', (16, )),
    'vit-s': Size(384, 12, 6, 'small', (8, 16, 32)),
    'vit-b': Size(768, 12, 12, 'base', (8, 16, 32)),
    'vit-l': Size(1024, 24, 16, 'large', (14, 16, 32)),
    'vit-h': Size(1280, 32, 16, 'huge', (14, )),
}
# Every name of an ``arch``: mmpretrain's, among them a 'small' of 8 layers of width
# 768, which no checkpoint of the literature has, and those of the table.
ARCHES = {**VisionTransformer.arch_zoo,
          **{name: size.arch for name, size in SIZES.items()}}
