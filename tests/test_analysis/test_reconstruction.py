"""Losses of MAE and of mixing on the same hidden patches."""
import pytest
import torch
from mmengine.registry import MODELS

from mixedae_mm.analysis.probe_batch import mix_for_probing
from mixedae_mm.analysis.reconstruction import _mae_predictions, reconstruction_loss
from mixedae_mm.mixing import patchify
from mixedae_mm.utils.errors import ConfigurationError
from small_models import ARCH, PATCH_SIZE, mixedae, randomised


def mae():
    return randomised(MODELS.build(dict(
        type='mmpretrain.MAE',
        data_preprocessor=dict(
            type='SelfSupDataPreprocessor', mean=[123.675, 116.28, 103.53],
            std=[58.395, 57.12, 57.375]),
        backbone=dict(type='mmpretrain.MAEViT', arch=ARCH, img_size=16,
                      patch_size=PATCH_SIZE),
        neck=dict(type='mmpretrain.MAEPretrainDecoder', num_patches=16,
                  patch_size=PATCH_SIZE, embed_dim=16, decoder_embed_dim=16,
                  decoder_depth=1, decoder_num_heads=2),
        head=dict(type='mmpretrain.MAEPretrainHead', norm_pix=True,
                  patch_size=PATCH_SIZE,
                  loss=dict(type='PixelReconstructionLoss', criterion='L2')))))


def images(count=8):
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8)


def test_mixing_has_the_loss_that_it_trains_with():
    model, batch = mixedae(), images()
    expected = mix_for_probing(model, batch, seed=3)
    losses = model.loss(
        dict(mixed=expected.mixed, clean=expected.clean,
             mix_mask=expected.mix_mask), None)
    model.train()
    assert reconstruction_loss(model, batch, seed=3) == pytest.approx(
        losses['loss_recon'].item(), rel=1e-5)
    assert model.training  # as it was


def test_mae_has_the_loss_that_it_trains_with(monkeypatch):
    """Its own masking, made to hide what the mixing mask hides."""
    model, batch = mae(), images()
    found = reconstruction_loss(model, batch, seed=3)
    mixed = mix_for_probing(model, batch, seed=3)
    shown = (mixed.mix_mask[:, None] == torch.arange(4)[:, None]).flatten(0, 1)
    # MAE shows the patches of least noise.
    monkeypatch.setattr(
        torch, 'rand', lambda *args, **kwargs: 1 - shown.float() +
        torch.linspace(0, 0.5, 16))
    losses = model.loss(mixed.clean, None)
    assert found == pytest.approx(losses['loss'].item(), rel=1e-5)
    assert 'random_masking' not in vars(model.backbone)


def test_both_are_scored_on_the_same_targets():
    """Who predicts zero everywhere has the same loss, whatever the model."""
    batch, found = images(), []
    for model in (mae(), mixedae()):
        torch.nn.init.zeros_(model.neck.decoder_pred.weight)
        torch.nn.init.zeros_(model.neck.decoder_pred.bias)
        found.append(reconstruction_loss(model, batch))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_mae_sees_the_shown_patches_only():
    model = mae()
    model.eval()
    clean = torch.randn(2, 3, 16, 16)
    shown = torch.zeros(2, 16, dtype=torch.bool)
    shown[0, [1, 5, 6, 11]] = shown[1, [0, 2, 9, 15]] = True
    with torch.no_grad():
        before = _mae_predictions(model, clean, shown)
        pixels = shown.view(2, 1, 4, 4).repeat_interleave(
            4, 2).repeat_interleave(4, 3)
        hidden_changed = _mae_predictions(
            model, torch.where(pixels, clean, torch.randn_like(clean)), shown)
        shown_changed = _mae_predictions(
            model, torch.where(pixels, torch.randn_like(clean), clean), shown)
    assert before.shape == patchify(clean, 4).shape
    assert torch.equal(before, hidden_changed)
    assert not torch.allclose(before, shown_changed)


def test_unequal_shares_are_refused():
    shown = torch.eye(16, dtype=torch.bool)[:2]
    shown[0, 5] = True
    with pytest.raises(ConfigurationError, match='as many patches'):
        _mae_predictions(mae(), torch.randn(2, 3, 16, 16), shown)


@pytest.mark.parametrize('model', [torch.nn.Linear(1, 1), mixedae(neck=None)])
def test_models_without_a_decoder_are_refused(model):
    with pytest.raises(ConfigurationError, match='with its decoder'):
        reconstruction_loss(model, images())
