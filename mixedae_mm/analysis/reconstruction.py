"""Reconstruction losses of different pretext tasks on the same targets."""
from mmengine.model import BaseModel
from mmpretrain.models import MAE
from torch import Tensor
from torch.nn import functional as F

from ..mixing import gather_hidden, is_shown, patch_statistics, patchify
from ..models import MixedAE
from ..utils.errors import ConfigurationError
from ..utils.undisturbed import evaluating
from .probe_batch import mix_for_probing, patch_size_of


def reconstruction_loss(model: BaseModel, images: Tensor, seed: int = 0) -> float:
    """Mean squared error on hidden patches (Eq. 4), with given masks.

    MAE and models that mix are compared on the same images and the very same
    hidden patches: one mask is drawn per group of images; source ``i`` is
    hidden where the mask names another one. A model that mixes sees the
    group's mixed sample, MAE sees the patches of source ``i`` alone. Targets
    are normalised patch by patch for both.

    The model is ``MAE`` of mmpretrain or ``MixedAE``, with a decoder. Images are ``(B,
    C, H, W)`` in 0..255, uint8 or float; those beyond the last whole group are left
    out. A loss of 1 is what predicting each patch's mean costs.
    """
    if not isinstance(model, (MAE, MixedAE)) or not model.with_neck:
        raise ConfigurationError(
            'The reconstruction loss takes a MAE or MixedAE model with its '
            f'decoder, not {type(model).__name__}.')
    with evaluating(model):
        clean, mixed, mix_mask, num_sources = mix_for_probing(model, images, seed)

        def hidden(patches: Tensor) -> Tensor:
            """``(B, L, D)`` to ``(S, L, n - 1, D)``."""
            return gather_hidden(patches.unflatten(0, (-1, num_sources)), mix_mask)

        if isinstance(model, MixedAE):
            predictions = model.neck(model.backbone(mixed, mix_mask).tokens, mix_mask)
        else:
            shown = is_shown(mix_mask, num_sources).mT  # (S, n, L)
            predictions = hidden(_mae_predictions(model, clean, shown.flatten(0, 1)))
        patches = patchify(clean, patch_size_of(model.backbone))
        mean, std = patch_statistics(patches)
        return float(F.mse_loss(predictions.float(), hidden((patches - mean) / std)))


def _mae_predictions(model: BaseModel, clean: Tensor, shown: Tensor) -> Tensor:
    """MAE's prediction of every patch, ``(B, L, P * P * C)``, from given visible ones.

    ``clean`` is ``(B, C, H, W)`` normalised, ``shown`` ``(B, L)`` bool.
    """
    counts = shown.sum(1)
    if (counts != counts[0]).any():
        raise ConfigurationError(
            'MAE shows as many patches of every image, which the number of '
            f'patches, {shown.size(1)}, must allow: take a mixing ratio that '
            'divides it.')
    order = shown.byte().argsort(dim=1, descending=True, stable=True)
    visible = order[:, :counts[0]]

    def choose(x: Tensor, mask_ratio: float = 0.75):
        index = visible[..., None].expand(-1, -1, x.size(-1))
        return x.gather(1, index), ~shown, order.argsort(1)

    backbone = model.backbone
    backbone.random_masking = choose  # hides the method of the class
    try:
        tokens, _, restore = backbone(clean, mask=True)
    finally:
        del backbone.random_masking
    return model.neck(tokens, restore)
