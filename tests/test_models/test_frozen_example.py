"""One step of a small model, written down: notices drift of PyTorch or of ours.

Weights, images and masks are formulas, so that nothing depends on a random
number generator. The numbers below were computed in float64 with PyTorch 2.14.
"""
import pytest
import torch
from mmengine.registry import MODELS
from small_vit import config

# loss_recon, loss_homocon, norm of all gradients of their sum
EXPECTED = dict(
    compose=(1.184943079481926, 0.3139535382247443, 0.5850597577965665),
    full=(1.1837808722703476, 0.31408851666503484, 0.5814317675879545),
)


def model_of_formulas(mode):
    arch = dict(embed_dims=16, num_layers=3, num_heads=2, feedforward_channels=24)
    model = MODELS.build(config(
        backbone=dict(img_size=(16, 24), patch_size=4, arch=arch),
        neck=dict(decoder_embed_dim=12, decoder_depth=2, decoder_num_heads=3),
        data_preprocessor=dict(mode=mode))).double()
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float64)
            parameter.copy_(
                (steps * (0.9 + 0.01 * i) + i).sin().mul(0.3).view_as(parameter))
    return model


@pytest.mark.parametrize('mode', EXPECTED)
@pytest.mark.parametrize('dtype, tolerance', [(torch.float64, 1e-9),
                                              (torch.float32, 1e-4)], ids=str)
def test_losses_and_gradient_norm(mode, dtype, tolerance):
    model = model_of_formulas(mode).to(dtype)
    values = torch.arange(8 * 3 * 16 * 24, dtype=torch.float64)
    clean = (values * 0.37).sin().add((values * 0.011).cos()).view(8, 3, 16, 24)
    num_samples = model.data_preprocessor.num_samples(8)
    samples = torch.arange(num_samples)[:, None]
    masks = (torch.arange(24) * 5 + torch.arange(24) // 7 + samples) % 4
    inputs = model.data_preprocessor.mix(clean.to(dtype), masks)
    losses = model(inputs, mode='loss')
    sum(losses.values()).backward()
    norms = [p.grad.norm() for p in model.parameters() if p.grad is not None]
    got = (losses['loss_recon'], losses['loss_homocon'], torch.stack(norms).norm())
    assert [number.item() for number in got] == pytest.approx(
        EXPECTED[mode], rel=tolerance)
