"""Encoder layer and attention that can be told to keep only TopK keys."""
from typing import Optional

import torch.nn.functional as F
from mmcv.cnn.bricks import DropPath
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from mmpretrain.models.utils import MultiheadAttention
from torch import Tensor

from ...ops import homologous_attention
from .relative_position_bias import PatchOffsets


class HomologousMultiheadAttention(MultiheadAttention):
    """mmpretrain's attention, also over TopK keys or with a position bias.

    Where the bias is asked for, the backbone sets ``rel_pos_bias``.
    """

    def forward(self,
                x: Tensor,
                topk: Optional[int] = None,
                offsets: Optional[PatchOffsets] = None) -> Tensor:
        """Self-attention of tokens, ``(B, N, C)`` to ``(B, N, C)``.

        Args:
            x (Tensor): ``(B, N, C)``.
            topk (int, optional): ``K``, keys kept per query and head (Eq. 6).
                None is global attention.
            offsets (PatchOffsets, optional): For global attention with the
                relative position bias.
        """
        if topk is None and offsets is None:
            return super().forward(x)
        qkv = self.qkv(x).unflatten(-1, (3, self.num_heads, self.head_dims))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)  # (B, heads, N, D) each
        if topk is not None:
            x = homologous_attention(query, key, value, topk)
        else:
            x = F.scaled_dot_product_attention(
                query, key, value, self.rel_pos_bias(offsets).to(query.dtype),
                dropout_p=self.attn_drop if self.training else 0.)
        x = self.proj(x.transpose(1, 2).flatten(2))  # (B, N, C)
        return self.out_drop(self.gamma1(self.proj_drop(x)))


class MixedAEEncoderLayer(TransformerEncoderLayer):
    """mmpretrain's encoder layer with :class:`HomologousMultiheadAttention`."""

    @classmethod
    def adopt(cls, layer: TransformerEncoderLayer) -> 'MixedAEEncoderLayer':
        """Turn a built layer into one of this class, in place.

        Parameters and submodules stay what mmpretrain made of its config, so
        the state dict is a plain ViT's by construction; only ``forward``
        gains an argument.
        """
        layer.__class__ = cls
        layer.attn.__class__ = HomologousMultiheadAttention
        for module in layer.modules():
            if isinstance(module, DropPath):
                # mmpretrain's rates are NumPy numbers, which torch.compile
                # cannot branch on.
                module.drop_prob = float(module.drop_prob)
        return layer

    def forward(self,
                x: Tensor,
                topk: Optional[int] = None,
                offsets: Optional[PatchOffsets] = None) -> Tensor:
        """Run one pre-norm Transformer layer, ``(B, N, C)`` to ``(B, N, C)``."""
        x = x + self.attn(self.ln1(x), topk, offsets)
        return self.ffn(self.ln2(x), identity=x)
