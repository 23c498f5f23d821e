"""Decoder layer that can drop the tokens that do not enter the loss."""
from typing import Optional

from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import Tensor

from ...mixing import gather_hidden


class MixedAEDecoderLayer(TransformerEncoderLayer):
    """mmpretrain's Transformer layer, whose MLP may see the hidden patches alone."""

    @classmethod
    def adopt(cls, layer: TransformerEncoderLayer) -> 'MixedAEDecoderLayer':
        """Turn a built layer into one of this class, in place."""
        layer.__class__ = cls
        return layer

    def forward(self, x: Tensor, mix_mask: Optional[Tensor] = None) -> Tensor:
        """Run one pre-norm Transformer layer on ``(S * n, 1 + L, D)``, CLS first.

        With a mask ``(S, L)`` int64 the result is ``(S, L, n - 1, D)``, in the order of
        :func:`mixedae_mm.mixing.hidden_sources`; without one it has the input's shape.
        """
        x = x + self.attn(self.ln1(x))
        if mix_mask is not None:
            # After the attention, tokens do not depend on each other any more. CLS
            # and the patches that are shown do not enter the loss and are dropped;
            # the result for the others is the same.
            x = x[:, 1:].unflatten(0, (len(mix_mask), -1))  # (S, n, L, D)
            x = gather_hidden(x, mix_mask)  # (S, L, n - 1, D)
        return self.ffn(self.ln2(x), identity=x)
