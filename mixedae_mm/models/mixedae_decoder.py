"""The neck: unmixing (Eq. 3) and MAE's decoder."""
from typing import Optional, Sequence

import torch
from mmengine.registry import MODELS
from mmpretrain.models import MAEPretrainDecoder
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..mixing import unmix_tokens
from ..utils.checks import check_count
from .layers.decoder_layer import MixedAEDecoderLayer
from .layers.position_embedding import sincos_position_embedding
from .checkpoint_fitting import LoadedWhole
from .vit_arguments import check_heads, check_init_cfg


@MODELS.register_module()
class MixedAEDecoder(LoadedWhole, MAEPretrainDecoder):
    """Decode one sequence per source from each mixed sample.

    Parameters and their names are those of mmpretrain's
    ``MAEPretrainDecoder``. The paper's decoder has 8 layers of width 512
    (MAE's 16 heads), its *light* decoder 2 layers of width 256 (8 heads here,
    which the paper leaves open).

    Pixels are predicted only where Eq. 4 takes a loss, that is where the
    source's own patch is not shown; the other positions are dropped after the
    attention of the last layer.

    Args:
        num_sources (int): ``n``, images in a mixed sample.
        grid (Sequence[int]): Rows and columns of patches; ``L`` is their
            product.
        embed_dim (int): Width of the encoder.
        with_cp (bool): Gradient checkpointing of every block.
        init_cfg (dict | list[dict], optional): With ``type='Pretrained'``, all
            weights come from its ``checkpoint``.
        **kwargs: Every other argument of ``MAEPretrainDecoder`` but
            ``num_patches``: ``patch_size``, ``in_chans``,
            ``decoder_embed_dim``, ``decoder_depth``, ``decoder_num_heads``,
            ``mlp_ratio``, ``norm_cfg``.

    Raises:
        ConfigurationError: If ``num_sources`` is below 2, ``decoder_depth`` below 1,
            the heads do not divide the width, or ``init_cfg`` names two checkpoints.
    """

    def __init__(self,
                 num_sources: int = 4,
                 grid: Sequence[int] = (14, 14),
                 embed_dim: int = 768,
                 decoder_embed_dim: int = 512,
                 decoder_depth: int = 8,
                 with_cp: bool = False,
                 init_cfg=None,
                 **kwargs) -> None:
        check_count('num_sources', num_sources, 2)
        check_count('decoder_depth', decoder_depth, 1)
        super().__init__(
            num_patches=grid[0] * grid[1],
            embed_dim=embed_dim,
            decoder_embed_dim=decoder_embed_dim,
            decoder_depth=decoder_depth,
            predict_feature_dim=None,  # the pixels of a patch
            init_cfg=check_init_cfg(init_cfg),
            **kwargs)
        self.num_sources = num_sources
        self.grid = tuple(grid)
        self.with_cp = with_cp
        check_heads('decoder_num_heads', self.decoder_blocks[0].attn)
        for block in self.decoder_blocks:
            MixedAEDecoderLayer.adopt(block)

    def init_weights(self) -> None:
        """MAE's initialisation, with positions for any grid."""
        self.decoder_pos_embed.data.copy_(
            sincos_position_embedding(self.grid, self.mask_token.size(-1)))
        torch.nn.init.normal_(self.mask_token, std=.02)
        # Last, so that the weights that init_cfg names stay. Not the method of
        # MAEPretrainDecoder, which assumes a square grid.
        super(MAEPretrainDecoder, self).init_weights()

    def forward(self, tokens: Tensor, mix_mask: Tensor) -> Tensor:
        """Unmix and predict the hidden patches of every source.

        Args:
            tokens (Tensor): ``(S, 1 + L, C)`` from the encoder, CLS first.
            mix_mask (Tensor): ``(S, L)`` int64.

        Returns:
            Tensor: ``(S, L, n - 1, P * P * C)``: at each position the patches
            of the sources that are not shown there, in the order of
            :func:`mixedae_mm.mixing.hidden_sources`.
        """
        tokens = self.decoder_embed(tokens)  # (S, 1 + L, D)
        cls_token = tokens[:, None, :1]  # (S, 1, 1, D)
        patches = tokens[:, 1:]  # (S, L, D)
        x = unmix_tokens(patches, mix_mask, self.num_sources,
                         self.mask_token[0, 0])  # (S, n, L, D)
        # Each unmixed sequence gets the mixed sample's CLS token.
        cls_token = cls_token.expand(-1, self.num_sources, -1, -1)  # (S, n, 1, D)
        x = torch.cat([cls_token, x], dim=2).flatten(0, 1)  # (S * n, 1 + L, D)
        x = x + self.decoder_pos_embed
        *blocks, last = self.decoder_blocks
        for block in blocks:
            x = self._run_block(block, x)
        # Given the mask, the last block drops all tokens but the hidden patches
        # after its attention.
        x = self._run_block(last, x, mix_mask)  # (S, L, n - 1, D)
        return self.decoder_pred(self.decoder_norm(x))  # (S, L, n - 1, P * P * C)

    def _run_block(self, block: MixedAEDecoderLayer, x: Tensor,
                   mix_mask: Optional[Tensor] = None) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, x, mix_mask, use_reentrant=False)
        return block(x, mix_mask)
