"""The one backbone: MixedAE's encoder, and a plain ViT for all transfer."""
from typing import List, NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn

from ..mixing import vectors_of_sources
from ..utils.checks import check_count
from ..utils.errors import ConfigurationError
from .layers.position_embedding import sincos_position_embedding
from .transfer_vit import TransferViT
from .vit_arguments import check_homologous, check_pretraining


class EncodedMix(NamedTuple):
    """Tokens of mixed samples, ``(S, 1 + L, C)``, after and before the final LayerNorm.

    CLS is the first.
    """
    tokens: Tensor
    tokens_before_norm: Tensor


@MODELS.register_module()
class MixedAEViT(TransferViT):
    """Vision Transformer for MixedAE pre-training and for transfer.

    Called with a mixing mask it is MixedAE's encoder (Sec. 3.1-3.2); called
    with images alone it is mmpretrain's ``VisionTransformer``. Its state dict
    is a plain ViT's plus, in pre-training, ``segment_embed``.

    Args:
        arch, img_size, patch_size: As in :class:`.transfer_vit.TransferViT`.
        num_sources (int, optional): ``n``, images in a mixed sample. None (the
            default) builds a plain ViT for transfer. With a number, positions
            are fixed sin-cos and the segment embedding exists. ``MixedAE``
            fills it in from the mixing ratio.
        homologous_attention (bool): Homologous attention (Eq. 6) in
            pre-training; False is the global attention of naive mixing.
        k_ratio (float, optional): ``K / L`` in (0, 1]; 1 keeps all keys.
            Defaults to ``1 / num_sources``, as the paper ties ``K`` to ``r``.
            CLS takes part like any token: ``K`` of the ``L + 1`` keys stay.
        num_global_layers (int): How many of the first layers keep global
            attention. Defaults to 1 (Table 3e).
        segment_embedding (bool): Add one learnable vector per source to the
            patch tokens (Sec. 3.2).
        homologous_in_transfer (bool): Keep TopK attention without a mixing
            mask too. The paper's transfer is global, the default.
        **kwargs: Every other argument of :class:`.transfer_vit.TransferViT`,
            ``relative_position_bias`` for transfer alone.

    Raises:
        ConfigurationError: As :class:`.transfer_vit.TransferViT`; if ``num_sources``
            is below 2, ``k_ratio`` not in (0, 1] or keeps no key, or
            ``num_global_layers`` not in [0, number of layers]; in pre-training if a
            side of the image is not a multiple of ``P``, the width not one of 4, or
            the attention has dropout; for a position bias without global attention.
    """

    def __init__(self,
                 arch: Union[str, dict] = 'base',
                 img_size: Union[int, Sequence[int]] = 224,
                 patch_size: int = 16,
                 num_sources: Optional[int] = None,
                 homologous_attention: bool = True,
                 k_ratio: Optional[float] = None,
                 num_global_layers: int = 1,
                 segment_embedding: bool = True,
                 homologous_in_transfer: bool = False,
                 **kwargs) -> None:
        super().__init__(arch, img_size, patch_size, **kwargs)
        if num_sources is not None:
            check_count('num_sources', num_sources, 2)
        self.num_sources = num_sources
        self.k_ratio = 1 / (num_sources or 4) if k_ratio is None else k_ratio
        self.num_global_layers = num_global_layers
        self.homologous_attention = homologous_attention
        self.homologous_in_transfer = homologous_in_transfer
        check_homologous(self)
        self.segment_embed = None
        if num_sources is None:
            self.freeze_unused()
            return
        check_pretraining(self, patch_size)
        rows, columns = self.patch_resolution
        self.topks = self.topk_of_layers(rows * columns)
        self.pos_embed.requires_grad = False
        if segment_embedding:
            self.segment_embed = nn.Parameter(
                torch.zeros(num_sources, self.embed_dims),
                requires_grad=self.frozen_stages < 1)
        if self.out_type == 'avg_featmap':
            # Only features of whole images pass this norm: no loss trains it,
            # and DistributedDataParallel would wait for its gradient.
            self.ln2.requires_grad_(False)

    @property
    def is_pretraining(self) -> bool:
        """Whether this backbone can encode mixed samples."""
        return self.num_sources is not None

    def init_weights(self) -> None:
        """MAE's initialisation in pre-training, mmpretrain's in transfer.

        Raises:
            ConfigurationError: If weights that ``init_cfg`` names do not fit (see
                :func:`.checkpoint_loading.load_pretrained`).
        """
        # Before init_cfg, whose values (of a checkpoint, above all) must stay.
        if self.is_pretraining:
            self._init_as_mae()
        else:
            nn.init.trunc_normal_(self.pos_embed, std=.02)
        # Not VisionTransformer's own method: it would overwrite positions.
        super(VisionTransformer, self).init_weights()

    def _init_as_mae(self) -> None:
        self.pos_embed.data.copy_(
            sincos_position_embedding(self.patch_resolution, self.embed_dims))
        projection = self.patch_embed.projection.weight
        nn.init.xavier_uniform_(projection.data.flatten(1))
        nn.init.normal_(self.cls_token, std=.02)
        if self.segment_embed is not None:
            nn.init.normal_(self.segment_embed, std=.02)

    def topk_of(self, num_patches: int) -> int:
        """``K = floor(k_ratio * L)``, keys kept per query and head.

        Raises:
            ConfigurationError: If no key would be kept.
        """
        topk = int(self.k_ratio * num_patches + 1e-6)
        if topk < 1:
            raise ConfigurationError(
                f'k_ratio = {self.k_ratio:.4g} of {num_patches} patches keeps no '
                'key; homologous attention needs K >= 1, so k_ratio >= '
                f'{1 / num_patches:.4g}.')
        return topk

    def topk_of_layers(self, num_patches: int) -> List[Optional[int]]:
        """``K`` of every layer of the encoder; None where it attends globally.

        Raises:
            ConfigurationError: If no key would be kept.
        """
        if not self.homologous_attention or self.k_ratio == 1:
            return [None] * self.num_layers
        num_homologous = self.num_layers - self.num_global_layers
        return ([None] * self.num_global_layers
                + [self.topk_of(num_patches)] * num_homologous)

    def forward(self, x: Tensor, mix_mask: Optional[Tensor] = None
                ) -> Union[EncodedMix, Tuple[Tensor, ...]]:
        """Encode mixed samples, or images.

        Args:
            x (Tensor): Images ``(B, C, H, W)``, in transfer of any size.
            mix_mask (Tensor, optional): ``(B, L)`` int64 in ``[0, n)``; which source
                each patch comes from.

        Returns:
            EncodedMix | tuple[Tensor]: With a mask, all tokens. Without, the
            outputs of ``out_indices`` in the form that ``out_type`` says.

        Raises:
            ConfigurationError: For a mask, if it was built without ``num_sources``.
        """
        if mix_mask is not None:
            return self._encode_mixed(x, mix_mask)
        x, (rows, columns) = self.embed(x)  # (B, 1 + L, C)
        topks: List[Optional[int]] = [None] * self.num_layers
        if self.homologous_in_transfer:
            topks = self.topk_of_layers(rows * columns)
        return tuple(self.encode(x, (rows, columns), topks))

    def _encode_mixed(self, mixed: Tensor, mix_mask: Tensor) -> EncodedMix:
        if not self.is_pretraining:
            raise ConfigurationError(
                'This MixedAEViT was built for transfer (num_sources=None) and '
                'cannot encode mixed samples; set num_sources = 1 / mix_ratio.')
        segments = None
        if self.segment_embed is not None:
            segments = vectors_of_sources(self.segment_embed, mix_mask)  # (S, L, C)
        x, _ = self.embed(mixed, segments)  # (S, 1 + L, C)
        for layer, topk in zip(self.layers, self.topks):
            x = self.run_layer(layer, x, topk)
        return EncodedMix(tokens=self.ln1(x), tokens_before_norm=x)

    def get_layer_depth(self, param_name: str, prefix: str = ''):
        """As in ``VisionTransformer``; segments have the depth of the positions."""
        if param_name == f'{prefix}segment_embed':
            param_name = f'{prefix}pos_embed'
        return super().get_layer_depth(param_name, prefix)
