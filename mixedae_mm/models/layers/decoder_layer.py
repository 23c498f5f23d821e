"""Decoder layer that can drop tokens once they were attended to."""
from typing import Callable, Optional

from mmpretrain.models.backbones.vision_transformer import \
    TransformerEncoderLayer
from torch import Tensor


class MixedAEDecoderLayer(TransformerEncoderLayer):
    """mmpretrain's Transformer layer, whose second half may see fewer tokens.

    After its attention a token is on its own. The last layer need not go on
    with tokens that nobody reads, and the others come out the same.
    """

    @classmethod
    def adopt(cls, layer: TransformerEncoderLayer) -> 'MixedAEDecoderLayer':
        """Turn a built layer into one of this class, in place."""
        layer.__class__ = cls
        return layer

    def forward(self,
                x: Tensor,
                select: Optional[Callable[[Tensor], Tensor]] = None) -> Tensor:
        """One pre-norm Transformer layer.

        Args:
            x (Tensor): ``(B, N, C)``.
            select (Callable, optional): From ``(B, N, C)`` to the tokens that
                are needed, ``(..., C)``. None keeps all.

        Returns:
            Tensor: ``(B, N, C)``, or what ``select`` left.
        """
        x = x + self.attn(self.ln1(x))
        if select is not None:
            x = select(x)
        return self.ffn(self.ln2(x), identity=x)
