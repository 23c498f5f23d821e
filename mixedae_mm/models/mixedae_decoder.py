"""The neck: unmixing (Eq. 3) and MAE's decoder."""
from math import inf
from typing import Callable, Optional

import torch
from mmengine.registry import MODELS
from mmpretrain.models import MAEPretrainDecoder
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..utils.checks import (check_count, check_flag, check_heads, check_norm,
                      check_number, check_side)
from ..utils.errors import ConfigurationError
from ..mixing import gather_hidden, unmix_tokens
from .checkpoint_loading import LoadedWhole
from .layers.decoder_layer import MixedAEDecoderLayer
from .layers.position_embedding import sincos_position_embedding
from .vit_arguments import check_init_cfg


@MODELS.register_module()
class MixedAEDecoder(LoadedWhole, MAEPretrainDecoder):
    """Decode one sequence a source from each mixed sample.

    Parameters and their names are those of mmpretrain's
    ``MAEPretrainDecoder``. The paper's decoder has 8 layers of width 512
    (MAE's 16 heads), its *light* decoder 2 layers of width 256 (8 heads here,
    which the paper leaves open).

    Pixels are predicted only where Eq. 4 takes a loss, that is where the
    source's own patch is not shown; the other positions end with the attention
    of the last layer.

    Args:
        num_sources (int): ``n``, images in a mixed sample.
        grid (tuple[int, int]): Rows and columns of patches; ``L`` is their
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
        ConfigurationError: For a value that an argument does not allow.
    """

    def __init__(self,
                 num_sources: int = 4,
                 grid=(14, 14),
                 embed_dim: int = 768,
                 decoder_embed_dim: int = 512,
                 decoder_depth: int = 8,
                 decoder_num_heads: int = 16,
                 mlp_ratio: float = 4,
                 norm_cfg: dict = dict(type='LN', eps=1e-6),
                 with_cp: bool = False,
                 init_cfg=None,
                 **kwargs) -> None:
        for name in ('num_patches', 'predict_feature_dim'):
            if name in kwargs:
                raise ConfigurationError(
                    f'MixedAEDecoder has no {name}; it follows from grid and '
                    'patch_size.')
        check_side('grid', grid)
        for name, value in (('num_sources', num_sources),
                            ('embed_dim', embed_dim),
                            ('decoder_embed_dim', decoder_embed_dim),
                            ('decoder_depth', decoder_depth),
                            ('decoder_num_heads', decoder_num_heads)):
            check_count(name, value)
        check_heads('decoder_num_heads', decoder_embed_dim, decoder_num_heads)
        check_number('decoder_embed_dim', decoder_embed_dim,
                     lambda width: width % 4 == 0,
                     'be a multiple of 4, for sin-cos positions')
        check_number('mlp_ratio', mlp_ratio,
                     lambda ratio: 1 <= ratio * decoder_embed_dim < inf,
                     'leave at least one hidden unit')
        check_norm('norm_cfg', norm_cfg)
        check_flag('with_cp', with_cp)
        super().__init__(
            num_patches=grid[0] * grid[1],
            embed_dim=embed_dim,
            decoder_embed_dim=decoder_embed_dim,
            decoder_depth=decoder_depth,
            decoder_num_heads=decoder_num_heads,
            mlp_ratio=mlp_ratio,
            norm_cfg=norm_cfg,
            init_cfg=check_init_cfg(init_cfg),
            **kwargs)
        self.num_sources = num_sources
        self.grid = tuple(grid)
        self.with_cp = with_cp
        for block in self.decoder_blocks:
            MixedAEDecoderLayer.adopt(block)

    def init_weights(self) -> None:
        """MAE's initialisation, with positions for any grid."""
        self.decoder_pos_embed.data.copy_(
            sincos_position_embedding(self.grid, self.mask_token.size(-1)))
        torch.nn.init.normal_(self.mask_token, std=.02)
        # Last, so that weights that init_cfg names come on top. Not
        # MAEPretrainDecoder's own method: it assumes a square grid.
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

        def select_hidden(x):  # (S * n, 1 + L, D) to (S, L, n - 1, D)
            x = x[:, 1:].unflatten(0, (-1, self.num_sources))
            return gather_hidden(x, mix_mask)

        tokens = self.decoder_embed(tokens)
        cls_token, patches = tokens[:, None, :1], tokens[:, 1:]
        x = unmix_tokens(patches, mix_mask, self.num_sources,
                         self.mask_token[0, 0])  # (S, n, L, D)
        # Each unmixed sequence gets the mixed sample's CLS token.
        cls_token = cls_token.expand(-1, self.num_sources, -1, -1)
        x = torch.cat([cls_token, x], dim=2).flatten(0, 1)
        x = x + self.decoder_pos_embed  # (S * n, 1 + L, D)
        last = len(self.decoder_blocks) - 1
        for i, block in enumerate(self.decoder_blocks):
            x = self._run_block(block, x, select_hidden if i == last else None)
        return self.decoder_pred(self.decoder_norm(x))

    def _run_block(self, block: MixedAEDecoderLayer, x: Tensor,
                   select: Optional[Callable[[Tensor], Tensor]]) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(block, x, select, use_reentrant=False)
        return block(x, select)
