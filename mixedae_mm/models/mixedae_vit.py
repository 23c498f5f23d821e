"""The one backbone: MixedAE's encoder, and a plain ViT for all transfer."""
from numbers import Integral
from typing import NamedTuple, Optional, Sequence, Tuple, Union

import torch
from mmengine.registry import MODELS
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..utils.checks import check_count, check_flag, check_number
from ..utils.errors import ConfigurationError
from ..mixing import patch_grid
from .checkpoint_loading import LoadedWhole
from .layers.encoder_layer import MixedAEEncoderLayer
from .layers.position_embedding import sincos_position_embedding
from .layers.relative_position_bias import (PatchOffsets, RelativePositionBias,
                                     patch_offsets)
from .vit_arguments import (check_arch, check_init_cfg, check_out_indices,
                            check_pretraining)


class EncodedMix(NamedTuple):
    """What the encoder hands on for mixed samples.

    Attributes:
        tokens (Tensor): ``(S, 1 + L, C)`` after the final LayerNorm, CLS
            first.
        tokens_before_norm (Tensor): The same before it.
    """
    tokens: Tensor
    tokens_before_norm: Tensor


@MODELS.register_module()
class MixedAEViT(LoadedWhole, VisionTransformer):
    """Vision Transformer for MixedAE pre-training and for transfer.

    Called with a mixing mask it is MixedAE's encoder (Sec. 3.1-3.2); called
    with images alone it is mmpretrain's ``VisionTransformer``. Its state dict
    is a plain ViT's plus, in pre-training, ``segment_embed``.

    Args:
        arch (str | dict): As in ``VisionTransformer``.
        img_size (int | tuple): Height and width in pixels.
        patch_size (int): ``P``.
        out_indices (int | Sequence[int]): Layers whose output is returned in
            transfer, counted from 0; negative values count from the end.
        num_sources (int, optional): ``n``, images in a mixed sample. None (the
            default) builds a plain ViT for transfer. With a number, positions
            are fixed sin-cos and the segment embedding exists. ``MixedAE``
            fills it in from the mixing ratio.
        homologous_attention (bool): Homologous attention (Eq. 6) in
            pre-training; False is the global attention of naive mixing.
        k_ratio (float, optional): ``K / L`` in (0, 1]; 1 is no sampling.
            Defaults to ``1 / num_sources``, as the paper ties ``K`` to ``r``.
            CLS takes part like any token: ``K`` of the ``L + 1`` keys are
            kept.
        num_global_layers (int): How many of the first layers keep global
            attention. Defaults to 1 (Table 3e).
        segment_embedding (bool): Add a learnable vector a source to the patch
            tokens (Sec. 3.2).
        homologous_in_transfer (bool): Keep TopK attention without a mixing
            mask too. The paper's transfer is global, the default.
        relative_position_bias (bool): Add BEiT's relative position bias in
            every layer, for transfer, as MAE and BEiT do on ADE20K. It starts
            at zero. Its scores of ``N x N`` a head and layer take memory that
            global attention otherwise does without.
        frozen_stages (int): How many layers, with the embeddings, are not
            trained and stay in evaluation mode; -1 and 0 are none.
        with_cp (bool): Gradient checkpointing of every layer: less memory,
            about a third more compute.
        pretrained (str, optional): What mmseg's segmentors hand on; short for
            ``init_cfg=dict(type='Pretrained', checkpoint=pretrained)``.
        init_cfg (dict | list[dict], optional): With ``type='Pretrained'``,
            ``checkpoint`` and optionally ``prefix`` and ``grid``, the weights
            come from there, all of them, and a line in the log says so (see
            :func:`.checkpoint_loading.load_pretrained`).
        **kwargs: Every other argument of ``VisionTransformer``.

    Raises:
        ConfigurationError: For an unknown arch, out_indices or frozen_stages
            outside the layers, a ratio that leaves no key, an image size that
            is no multiple of the patch size (pre-training only), a relative
            position bias together with homologous attention.
    """

    def __init__(self,
                 arch: Union[str, dict] = 'base',
                 img_size: Union[int, Tuple[int, int]] = 224,
                 patch_size: int = 16,
                 out_indices: Union[int, Sequence[int]] = -1,
                 num_sources: Optional[int] = None,
                 homologous_attention: bool = True,
                 k_ratio: Optional[float] = None,
                 num_global_layers: int = 1,
                 segment_embedding: bool = True,
                 homologous_in_transfer: bool = False,
                 relative_position_bias: bool = False,
                 frozen_stages: int = -1,
                 with_cp: bool = False,
                 pretrained: Optional[str] = None,
                 init_cfg: Union[dict, Sequence[dict], None] = None,
                 **kwargs) -> None:
        sizes = check_arch(arch, self.arch_zoo)
        num_layers = sizes['num_layers']
        for name, value in (('frozen_stages', frozen_stages),
                            ('num_global_layers', num_global_layers)):
            lowest = -1 if name == 'frozen_stages' else 0
            check_number(
                name, value, lambda layers: lowest <= layers <= num_layers,
                f'lie in [{lowest}, {num_layers}] for a ViT of {num_layers} '
                'layers', Integral)
        for name, flag in (('homologous_attention', homologous_attention),
                           ('segment_embedding', segment_embedding),
                           ('homologous_in_transfer', homologous_in_transfer),
                           ('relative_position_bias', relative_position_bias),
                           ('with_cp', with_cp)):
            check_flag(name, flag)
        if num_sources is not None:
            check_count('num_sources', num_sources, at_least=2)
            check_pretraining(sizes, img_size, patch_size, kwargs)
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            out_indices=check_out_indices(out_indices, num_layers),
            frozen_stages=frozen_stages,
            init_cfg=check_init_cfg(init_cfg, pretrained),
            **kwargs)
        self.num_sources = num_sources
        if k_ratio is None:
            k_ratio = 1 / (num_sources or 4)
        check_number('k_ratio', k_ratio, lambda ratio: 0 < ratio <= 1,
                     'lie in (0, 1]: the share of the patches that homologous '
                     'attention keeps for a query')
        self.k_ratio = k_ratio
        self.num_global_layers = num_global_layers
        self.homologous_attention = homologous_attention
        self.homologous_in_transfer = homologous_in_transfer
        self.with_cp = with_cp
        self.relative_position_bias = relative_position_bias
        if relative_position_bias and (self.is_pretraining
                                       or homologous_in_transfer):
            raise ConfigurationError(
                'relative_position_bias is for transfer with global '
                'attention; it does not go with num_sources or '
                'homologous_in_transfer.')
        for layer in self.layers:
            MixedAEEncoderLayer.adopt(layer)
            if relative_position_bias:
                layer.attn.rel_pos_bias = RelativePositionBias(
                    self.patch_resolution, layer.attn.num_heads,
                    self.with_cls_token)

        self.segment_embed = None
        if self.is_pretraining:
            rows, columns = patch_grid(self.img_size, patch_size)
            if homologous_attention:
                self.topk_of(rows * columns)  # refuses K = 0 right here
            self.pos_embed.requires_grad = False
            if segment_embedding:
                self.segment_embed = nn.Parameter(
                    torch.zeros(num_sources, self.embed_dims))
        self.train()  # frozen layers go to evaluation mode

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
        # First, so that what init_cfg says, weights above all, comes on top.
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

    def train(self, mode: bool = True) -> 'MixedAEViT':
        """As any module, but frozen layers stay in evaluation mode."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def topk_of(self, num_patches: int) -> int:
        """``K = floor(k_ratio * L)``, keys kept a query and head.

        Args:
            num_patches (int): ``L``.

        Returns:
            int: ``K``, between 1 and ``L``.

        Raises:
            ConfigurationError: If no key would be kept.
        """
        topk = int(self.k_ratio * num_patches + 1e-6)
        if topk < 1:
            raise ConfigurationError(
                f'k_ratio = {self.k_ratio:.4g} of {num_patches} patches keeps '
                'no key; homologous attention needs K >= 1, so k_ratio >= '
                f'{1 / num_patches:.4g}.')
        return topk

    def layer_topk(self, layer_index: int, num_patches: int) -> Optional[int]:
        """``K`` of a layer in pre-training; None where it attends globally."""
        if (not self.homologous_attention or self.k_ratio == 1
                or layer_index < self.num_global_layers):
            return None
        return self.topk_of(num_patches)

    def forward(
        self,
        x: Tensor,
        mix_mask: Optional[Tensor] = None
    ) -> Union[EncodedMix, Tuple[Tensor, ...]]:
        """Encode mixed samples, or images.

        Args:
            x (Tensor): Images ``(B, C, H, W)``, in transfer of any size.
            mix_mask (Tensor, optional): ``(B, L)`` int64; which source each
                patch comes from.

        Returns:
            EncodedMix | tuple[Tensor]: With a mask, all tokens. Without, the
            outputs of ``out_indices`` in the form that ``out_type`` says.
        """
        if mix_mask is not None:
            return self._encode_mixed(x, mix_mask)
        x, grid = self._embed(x)
        offsets = None
        if self.relative_position_bias:
            offsets = patch_offsets(grid, self.with_cls_token, x.device)
        outs = []
        for i, layer in enumerate(self.layers):
            topk = None
            if self.homologous_in_transfer:
                topk = self.layer_topk(i, grid[0] * grid[1])
            x = self._run_layer(layer, x, topk, offsets)
            if i == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(self._format_output(x, grid))
        return tuple(outs)

    def _encode_mixed(self, mixed: Tensor, mix_mask: Tensor) -> EncodedMix:
        if not self.is_pretraining:
            raise ConfigurationError(
                'This MixedAEViT was built for transfer (num_sources=None) '
                'and cannot encode mixed samples; set num_sources = '
                '1 / mix_ratio.')
        segments = None
        if self.segment_embed is not None:
            segments = self.segment_embed[mix_mask]  # (S, L, C)
        x, _ = self._embed(mixed, segments)
        for i, layer in enumerate(self.layers):
            x = self._run_layer(layer, x, self.layer_topk(
                i, mix_mask.size(1)))
        return EncodedMix(tokens=self.ln1(x), tokens_before_norm=x)

    def _embed(self, x: Tensor, segments: Optional[Tensor] = None):
        """Patches, positions, segments and CLS: ``(B, 1 + L, C)`` and grid."""
        x, grid = self.patch_embed(x)
        if segments is not None:
            x = x + segments
        if self.cls_token is not None:
            x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        x = x + self.resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            grid,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens)
        return self.pre_norm(self.drop_after_pos(x)), grid

    def _run_layer(self,
                   layer: nn.Module,
                   x: Tensor,
                   topk: Optional[int],
                   offsets: Optional[PatchOffsets] = None) -> Tensor:
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(layer, x, topk, offsets, use_reentrant=False)
        return layer(x, topk, offsets)

    def get_layer_depth(self, param_name: str, prefix: str = ''):
        """As ``VisionTransformer``, with segments beside the positions."""
        if param_name == f'{prefix}segment_embed':
            param_name = f'{prefix}pos_embed'
        return super().get_layer_depth(param_name, prefix)
