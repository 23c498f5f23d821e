"""Losses of MAE and of mixing on the same hidden patches."""
import pytest
import torch

from mixedae_mm.analysis.probe_batch import mix_for_probing
from mixedae_mm.analysis.reconstruction import _mae_predictions, reconstruction_loss
from mixedae_mm.mixing import patchify
from mixedae_mm.utils.errors import ConfigurationError
from small_models import MAE, built, mixedae


@pytest.fixture
def images():
    return torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)


def test_mixing_has_the_loss_that_it_trains_with(images):
    model = mixedae()
    batch = mix_for_probing(model, images, seed=3)._asdict()
    del batch['num_sources']
    expected = model.loss(batch, None)['loss_recon']
    model.train()
    assert reconstruction_loss(model, images, seed=3) == pytest.approx(
        expected.item(), rel=1e-5)
    assert model.training  # as it was


def test_mae_has_the_loss_that_it_trains_with(monkeypatch, images):
    """Its own masking, made to hide what the mixing mask hides."""
    model = built(MAE)
    found = reconstruction_loss(model, images, seed=3)
    mixed = mix_for_probing(model, images, seed=3)
    shown = (mixed.mix_mask[:, None] == torch.arange(4)[:, None]).flatten(0, 1)
    # MAE shows the patches of least noise.
    monkeypatch.setattr(
        torch, 'rand', lambda *args, **kwargs: 1 - shown.float() +
        torch.linspace(0, 0.5, 16))
    losses = model.loss(mixed.clean, None)
    assert found == pytest.approx(losses['loss'].item(), rel=1e-5)
    assert 'random_masking' not in vars(model.backbone)


def test_both_are_scored_on_the_same_targets(images):
    """Who predicts zero everywhere has the same loss, whatever the model."""
    found = []
    for model in (built(MAE), mixedae()):
        torch.nn.init.zeros_(model.neck.decoder_pred.weight)
        torch.nn.init.zeros_(model.neck.decoder_pred.bias)
        found.append(reconstruction_loss(model, images))
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_mae_sees_the_shown_patches_only():
    model = built(MAE)
    clean = torch.randn(2, 3, 16, 16)
    shown = torch.zeros(2, 16, dtype=torch.bool)
    shown[0, [1, 5, 6, 11]] = shown[1, [0, 2, 9, 15]] = True
    pixels = shown.view(2, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    other = torch.randn_like(clean)
    with torch.no_grad():
        before, hidden_changed, shown_changed = (
            _mae_predictions(model, images, shown) for images in (
                clean, clean.where(pixels, other), other.where(pixels, clean)))
    assert before.shape == patchify(clean, 4).shape
    assert torch.equal(before, hidden_changed)
    assert not torch.allclose(before, shown_changed)
    shown[0, 2] = True
    with pytest.raises(ConfigurationError, match='as many patches'):
        _mae_predictions(model, clean, shown)


@pytest.mark.parametrize('model', [torch.nn.Linear(1, 1), mixedae(neck=None)])
def test_models_without_a_decoder_are_refused(model, images):
    with pytest.raises(ConfigurationError, match='with its decoder'):
        reconstruction_loss(model, images)
