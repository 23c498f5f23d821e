"""A plain ViT: mmpretrain's, with the options that transfer needs."""
from typing import Iterable, List, Optional, Sequence, Tuple, Union

import torch
from mmpretrain.models import VisionTransformer
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..utils.checks import check_count
from .layers.encoder_layer import MixedAEEncoderLayer
from .layers.relative_position_bias import (PatchOffsets, RelativePositionBias,
                                            patch_offsets)
from .checkpoint_fitting import LoadedWhole
from .vit_arguments import check_heads, check_init_cfg, check_out_indices
from .vit_sizes import ARCHES


class TransferViT(LoadedWhole, VisionTransformer):
    """mmpretrain's ``VisionTransformer``, with options for transfer.

    Its parameters are those of a plain ViT, plus the bias tables with
    ``relative_position_bias``.

    Args:
        arch (str | dict): As in ``VisionTransformer``, or a name of
            :data:`.vit_sizes.SIZES`: ``'vit-ti'``, ``'vit-s'``, ``'vit-b'``,
            ``'vit-l'``, ``'vit-h'``.
        img_size (int | Sequence[int]): Height and width in pixels.
        patch_size (int): ``P``, any number of pixels.
        out_indices (int | Sequence[int]): Layers whose output is returned,
            ascending, counted from 0; negative values count from the end.
        relative_position_bias (bool): Add BEiT's relative position bias in
            every layer, as MAE and BEiT do on ADE20K. It starts at zero. Its
            scores, ``N x N`` per head and layer, take memory that global
            attention otherwise does without.
        frozen_stages (int): How many layers, with the embeddings, are not
            trained and stay in evaluation mode; -1 and 0 freeze nothing.
        with_cp (bool): Gradient checkpointing of every layer: less memory,
            about a third more compute.
        pretrained (str, optional): An argument that mmseg's segmentors give to
            their backbone; short for
            ``init_cfg=dict(type='Pretrained', checkpoint=pretrained)``.
        init_cfg (dict | list[dict], optional): With ``type='Pretrained'``,
            ``checkpoint`` and optionally ``prefix`` and ``grid``, all weights come
            from there, and a line in the log tells which (see
            :func:`.checkpoint_loading.load_pretrained`).
        **kwargs: Every other argument of ``VisionTransformer``.

    Raises:
        ConfigurationError: If ``out_indices`` or ``frozen_stages`` are outside the
            layers, the heads do not divide the width, or a checkpoint is named twice.
    """

    arch_zoo = ARCHES

    def __init__(self,
                 arch: Union[str, dict] = 'base',
                 img_size: Union[int, Sequence[int]] = 224,
                 patch_size: int = 16,
                 out_indices: Union[int, Sequence[int]] = -1,
                 relative_position_bias: bool = False,
                 frozen_stages: int = -1,
                 with_cp: bool = False,
                 pretrained: Optional[str] = None,
                 init_cfg: Union[dict, Sequence[dict], None] = None,
                 **kwargs) -> None:
        super().__init__(
            arch=arch,
            img_size=img_size,
            patch_size=patch_size,
            init_cfg=check_init_cfg(init_cfg, pretrained),
            **kwargs)
        self.out_indices = check_out_indices(out_indices, self.num_layers)
        check_count('frozen_stages', frozen_stages, -1, self.num_layers)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        self.relative_position_bias = relative_position_bias
        check_heads('arch.num_heads', self.layers[0].attn)
        for layer in self.layers:
            MixedAEEncoderLayer.adopt(layer)
            if relative_position_bias:
                layer.attn.rel_pos_bias = RelativePositionBias(
                    self.patch_resolution, layer.attn.num_heads,
                    self.with_cls_token)
        self.train()  # freezes stages

    def train(self, mode: bool = True) -> 'TransferViT':
        """As any module, but frozen layers stay in evaluation mode."""
        super().train(mode)
        if self.frozen_stages > 0:
            self._freeze_stages()
        return self

    def freeze_unused(self) -> None:
        """Freeze what comes after the last output.

        No loss trains it, and DistributedDataParallel would wait for its gradient.
        """
        last = self.out_indices[-1]
        for layer in self.layers[last + 1:]:
            layer.requires_grad_(False)
        if self.final_norm and last < self.num_layers - 1:
            self.ln1.requires_grad_(False)

    def embed(self, images: Tensor, segments: Optional[Tensor] = None
              ) -> Tuple[Tensor, Tuple[int, int]]:
        """Embed images ``(B, C, H, W)``: patches, positions and CLS.

        Segments ``(B, L, C)`` are added to the patches.

        Returns:
            tuple: Tokens ``(B, 1 + L, C)`` (``L`` without a CLS token), and rows and
            columns of patches.
        """
        x, grid = self.patch_embed(images)  # (B, L, C)
        if segments is not None:
            x = x + segments
        if self.cls_token is not None:
            cls_token = self.cls_token.expand(len(x), -1, -1)  # (B, 1, C)
            x = torch.cat([cls_token, x], dim=1)  # (B, 1 + L, C)
        x = x + self.resize_pos_embed(
            self.pos_embed,
            self.patch_resolution,
            grid,
            mode=self.interpolate_mode,
            num_extra_tokens=self.num_extra_tokens)
        return self.pre_norm(self.drop_after_pos(x)), tuple(grid)

    def run_layer(self, layer: nn.Module, x: Tensor, topk: Optional[int] = None,
                  offsets: Optional[PatchOffsets] = None) -> Tensor:
        """Run one encoder layer, ``(B, N, C)`` to ``(B, N, C)``."""
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(layer, x, topk, offsets, use_reentrant=False)
        return layer(x, topk, offsets)

    def encode(self, x: Tensor, grid: Tuple[int, int],
               topks: Iterable[Optional[int]]) -> List[Tensor]:
        """Run the layers on ``(B, N, C)`` and format their outputs.

        ``grid`` has rows and columns of patches, ``topks`` the ``K`` of each layer,
        None for global attention.

        Returns:
            list[Tensor]: One for each of ``out_indices``.
        """
        offsets = None
        if self.relative_position_bias:
            offsets = patch_offsets(grid, self.with_cls_token, x.device)
        outs = []
        for i, (layer, topk) in enumerate(zip(self.layers, topks)):
            x = self.run_layer(layer, x, topk, offsets)
            if i == len(self.layers) - 1 and self.final_norm:
                x = self.ln1(x)
            if i in self.out_indices:
                outs.append(self._format_output(x, grid))
        return outs
