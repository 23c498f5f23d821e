"""The head: targets, reconstruction loss (Eq. 4), contrastive loss, total (Eq. 8)."""
from math import inf
from typing import Dict, Optional

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..mixing import hidden_targets, patch_statistics, patchify
from ..utils.checks import check_choice, check_count, check_number
from ..utils.errors import ConfigurationError
from .checkpoint_fitting import LoadedWhole
from .mixedae_vit import EncodedMix
from .vit_arguments import check_init_cfg


@MODELS.register_module()
class MixedAEPretrainHead(LoadedWhole, BaseModule):
    """Both losses of MixedAE, whose sum mmengine makes: Eq. 8.

    ``loss = loss_recon + lambda * loss_homocon``: Eq. 4 is here, Eq. 7 in
    :class:`HomologousContrastiveLoss`.

    Args:
        num_sources (int): ``n``, images in a mixed sample.
        embed_dim (int): Width ``C`` of the encoder.
        patch_size (int): ``P``.
        norm_pix (bool): Normalise every target patch by its own mean and
            standard deviation, as MAE does.
        contrast_loss (dict, optional): Config of the contrastive loss. None
            turns it off: naive mixing, or homologous attention only.
        contrast_weight (float): ``lambda`` of Eq. 8, at least 0.
        contrast_input (str): ``'after_norm'`` (default) or ``'before_norm'``:
            encoder tokens after or before the final LayerNorm (Table 3b).
        proj_dim (int): Output width of the linear projector.
        init_cfg (dict, optional): Initialisation config.

    Raises:
        ConfigurationError: If ``contrast_weight`` is negative or not finite,
            ``proj_dim`` below 1, or ``contrast_input`` is neither of the two.
    """
    CONTRAST_INPUTS = ('after_norm', 'before_norm')

    def __init__(self,
                 num_sources: int = 4,
                 embed_dim: int = 768,
                 patch_size: int = 16,
                 norm_pix: bool = True,
                 contrast_loss: Optional[dict] = dict(
                     type='HomologousContrastiveLoss'),
                 contrast_weight: float = 0.1,
                 contrast_input: str = 'after_norm',
                 proj_dim: int = 128,
                 init_cfg: Optional[dict] = None) -> None:
        super().__init__(check_init_cfg(init_cfg))
        check_choice('contrast_input', contrast_input, self.CONTRAST_INPUTS)
        check_number('contrast_weight', contrast_weight,
                     lambda weight: 0 <= weight < inf, 'be a number >= 0')
        check_count('proj_dim', proj_dim, 1)
        self.num_sources = num_sources
        self.patch_size = patch_size
        self.norm_pix = norm_pix
        self.contrast_weight = contrast_weight
        self.contrast_input = contrast_input
        self.contrast_loss = None
        if contrast_loss is not None:
            self.contrast_loss = MODELS.build(contrast_loss)
            self.projector = nn.Linear(embed_dim, proj_dim)

    def loss(self, encoded: EncodedMix, predictions: Optional[Tensor],
             clean: Tensor, mix_mask: Tensor) -> Dict[str, Tensor]:
        """Losses of one batch that are in use.

        Args:
            encoded (EncodedMix): Tokens of the mixed samples.
            predictions (Tensor, optional): ``(S, L, n - 1, P * P * C)`` from
                the decoder; None without a decoder.
            clean (Tensor): ``(B, C, H, W)``, normalised images.
            mix_mask (Tensor): ``(S, L)`` int64.

        Returns:
            dict[str, Tensor]: ``loss_recon`` and ``loss_homocon``, scalars, the latter
            already times lambda.
        """
        losses = {}
        if predictions is not None:
            losses['loss_recon'] = self.reconstruction_loss(
                predictions, clean, mix_mask)
        if self.contrast_loss is not None:
            tokens = (
                encoded.tokens if self.contrast_input == 'after_norm' else
                encoded.tokens_before_norm)
            features = self.projector(tokens[:, 1:])  # (S, L, D): CLS has no source
            losses['loss_homocon'] = self.contrast_weight * self.contrast_loss(
                features, mix_mask, self.num_sources)
        return losses

    def reconstruction_loss(self, predictions: Tensor, clean: Tensor,
                            mix_mask: Tensor) -> Tensor:
        """Eq. 4: mean squared error on the hidden patches, as MAE takes it.

        Args:
            predictions (Tensor): ``(S, L, n - 1, P * P * C)``, in the order of
                :func:`mixedae_mm.mixing.hidden_sources`.
            clean (Tensor): ``(B, C, H, W)``.
            mix_mask (Tensor): ``(S, L)`` int64.

        Returns:
            Tensor: Scalar; float32 for predictions in half precision.
        """
        targets = hidden_targets(
            self.targets(clean), mix_mask, self.num_sources)  # (S, L, n - 1, P * P * C)
        # Half precision becomes float32, and float64 stays.
        dtype = torch.promote_types(predictions.dtype, torch.float32)
        return F.mse_loss(predictions.to(dtype), targets.to(dtype))

    def targets(self, clean: Tensor) -> Tensor:
        """Patches of images ``(B, C, H, W)``, to be predicted: ``(B, L, P * P * C)``.

        Each is normalised with ``norm_pix``.

        Raises:
            ConfigurationError: If a patch of a single value is to be normalised.
        """
        patches = patchify(clean, self.patch_size)  # (B, L, P * P * C)
        if self.norm_pix:
            if patches.size(-1) == 1:
                raise ConfigurationError(
                    'norm_pix cannot normalise patches of a single value; use '
                    'a larger patch_size, or norm_pix=False.')
            mean, std = patch_statistics(patches)  # (B, L, 1) each
            patches = (patches - mean) / std
        return patches
