"""Reconstruction losses of different pretext tasks on the same targets."""
import torch
from mmengine.model import BaseModel
from mmpretrain.models import MAE
from torch import Tensor
from torch.nn import functional as F

from ..mixing import gather_hidden, patch_statistics, patchify
from ..models import MixedAE
from ..utils.errors import ConfigurationError
from ..utils.undisturbed import evaluating
from .probe_batch import mix_for_probing, patch_size_of


def reconstruction_loss(model: BaseModel, images: Tensor,
                        seed: int = 0) -> float:
    """Mean squared error on hidden patches (Eq. 4), with given masks.

    MAE and models that mix are compared on the same images and the very same
    hidden patches: one mask is drawn per group of images; source ``i`` is
    hidden where the mask names another one. A model that mixes sees the
    group's mixed sample, MAE sees the patches of source ``i`` alone. Targets
    are normalised patch by patch for both.

    Args:
        model (BaseModel): ``MAE`` of mmpretrain or ``MixedAE`` with a decoder.
        images (Tensor): ``(B, C, H, W)`` in 0..255, uint8 or float; those
            beyond the last whole group are left out.
        seed (int): Of the masks.

    Returns:
        float: The loss; 1 is what predicting each patch's mean costs.

    Raises:
        ConfigurationError: For any other model.
    """
    if not isinstance(model, (MAE, MixedAE)) or not model.with_neck:
        raise ConfigurationError(
            'The reconstruction loss takes a MAE or MixedAE model with its '
            f'decoder, not {type(model).__name__}.')
    with evaluating(model):
        batch = mix_for_probing(model, images, seed)
        if isinstance(model, MixedAE):
            tokens = model.backbone(batch.mixed, batch.mix_mask).tokens
            predictions = model.neck(tokens, batch.mix_mask)
        else:
            sources = torch.arange(batch.num_sources, device=images.device)
            shown = batch.mix_mask[:, None] == sources[:, None].to(
                batch.mix_mask.device)  # (S, n, L)
            predicted = _mae_predictions(model, batch.clean, shown.flatten(0, 1))
            predictions = gather_hidden(
                predicted.unflatten(0, (-1, batch.num_sources)), batch.mix_mask)
        patches = patchify(batch.clean, patch_size_of(model.backbone))
        mean, std = patch_statistics(patches)
        targets = gather_hidden(
            ((patches - mean) / std).unflatten(0, (-1, batch.num_sources)),
            batch.mix_mask)
        return float(F.mse_loss(predictions.float(), targets))


def _mae_predictions(model: BaseModel, clean: Tensor, shown: Tensor) -> Tensor:
    """MAE's prediction of every patch from given visible ones.

    Args:
        model (BaseModel): ``MAE``.
        clean (Tensor): ``(B, C, H, W)`` normalised.
        shown (Tensor): ``(B, L)`` bool.

    Returns:
        Tensor: ``(B, L, P * P * C)``.
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
