"""The whole model against the paper's equations, in float64, with gradients."""
import equations
import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from small_vit import config

from mixedae_mm.models import HomologousContrastiveLoss

PATCH, SIZE, WIDTH = 4, 12, 8
ARCH = dict(embed_dims=WIDTH, num_layers=3, num_heads=2, feedforward_channels=16)


def build(ratio, mode):
    model = MODELS.build(config(
        backbone=dict(arch=ARCH, img_size=SIZE, patch_size=PATCH),
        neck=dict(decoder_embed_dim=WIDTH, decoder_depth=2), head=dict(proj_dim=6),
        data_preprocessor=dict(mix_ratio=ratio, mode=mode)))
    for parameter in model.parameters():  # nothing at a special value
        torch.nn.init.normal_(parameter, std=.3)
    return model.double()


def reference_attention(attn, x, topk):
    """Multi-head attention of one sequence ``(N, C)`` by Eq. 6."""
    heads, dims = attn.num_heads, attn.head_dims
    q, k, v = F.linear(x, attn.qkv.weight, attn.qkv.bias).split(WIDTH, dim=-1)
    out = [equations.homologous_attention(
        *(matrix[:, h * dims:(h + 1) * dims] for matrix in (q, k, v)), topk)
        for h in range(heads)]
    return F.linear(torch.cat(out, -1), attn.proj.weight, attn.proj.bias)


def reference_layer(layer, x, topk):
    x = x + reference_attention(layer.attn, layer.ln1(x), topk)
    first, second = layer.ffn.layers[0][0], layer.ffn.layers[1]
    return x + second(F.gelu(first(layer.ln2(x))))


def reference_losses(model, clean, masks, ratio, mode):
    """Eq. 1 to 8, one image, one sequence, one patch at a time."""
    backbone, neck, head = model.backbone, model.neck, model.head
    n = round(1 / ratio)
    num_patches = (SIZE // PATCH)**2
    per_group = n if mode == 'full' else 1
    decoded, sources, features = [], [], []
    for s, mask in enumerate(masks):
        group = clean[s // per_group * n:(s // per_group + 1) * n]
        mixed = equations.mix_image(group, mask, PATCH)
        x = backbone.patch_embed.projection(mixed[None])[0].flatten(1).T
        x = x + torch.stack([backbone.segment_embed[i] for i in mask])
        x = torch.cat([backbone.cls_token[0], x]) + backbone.pos_embed[0]
        for i, layer in enumerate(backbone.layers):
            keys = len(x) if i == 0 else int(num_patches / n)
            x = reference_layer(layer, x, keys)
        x = backbone.ln1(x)
        features.append(head.projector(x[1:]))
        tokens = neck.decoder_embed(x)
        rows = []
        for i in range(n):
            y = equations.unmix(tokens[1:], mask, i, neck.mask_token[0, 0])
            y = torch.cat([tokens[:1], y]) + neck.decoder_pos_embed[0]
            for block in neck.decoder_blocks:
                y = reference_layer(block, y, len(y))
            rows.append(neck.decoder_pred(neck.decoder_norm(y))[1:])
        decoded.append(rows)
        sources.append(group)
    return dict(
        loss_recon=equations.reconstruction_loss(decoded, sources, masks, PATCH),
        loss_homocon=0.1 * equations.contrastive_loss(
            torch.stack(features), masks, temperature=0.25))


@pytest.mark.parametrize('mode', ['compose', 'full'])
@pytest.mark.parametrize('ratio', [1 / 2, 1 / 3, 1 / 4])
def test_losses_and_gradients(ratio, mode):
    """9 patches: n = 3 divides them, n = 2 and n = 4 do not."""
    model = build(ratio, mode)
    n = round(1 / ratio)
    pixels = torch.randint(0, 256, (2 * n, 3, SIZE, SIZE), dtype=torch.uint8)
    inputs = model.data_preprocessor(
        dict(inputs=pixels, data_samples=None), training=True)['inputs']
    # The preprocessor works in float32; from here on float64.
    clean = inputs['clean'].double()
    masks = inputs['mix_mask']
    inputs = model.data_preprocessor.mix(clean, masks)

    losses = model(inputs, mode='loss')
    expected = reference_losses(model, clean, masks, ratio, mode)
    assert losses.keys() == expected.keys()
    parameters = {
        name: p for name, p in model.named_parameters() if p.requires_grad}
    for name in losses:
        torch.testing.assert_close(
            losses[name], expected[name], rtol=1e-5, atol=0)
        ours, theirs = (
            torch.autograd.grad(
                loss, list(parameters.values()), retain_graph=True,
                allow_unused=True) for loss in (losses[name], expected[name]))
        for key, a, b in zip(parameters, ours, theirs):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize('positives', ['separate', 'mean'])
@pytest.mark.parametrize('n', [2, 3, 4])
def test_contrastive_loss_is_equation_7(n, positives):
    features = torch.randn(3, 9, 5, dtype=torch.float64, requires_grad=True)
    masks = torch.stack([torch.randperm(9) % n for _ in range(3)])
    loss = HomologousContrastiveLoss(0.25, positives)(features, masks, n)
    expected = equations.contrastive_loss(features, masks, 0.25, positives)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(x, features)[0] for x in (loss, expected)))


def test_patches_without_a_positive_are_left_out():
    """5 patches of 4 sources: only the source with two patches has pairs."""
    features = torch.randn(1, 5, 3, dtype=torch.float64)
    mask = torch.tensor([[0, 1, 2, 3, 0]])
    torch.testing.assert_close(
        HomologousContrastiveLoss()(features, mask, 4),
        equations.contrastive_loss(features, mask, 0.25))


def test_contrastive_minimum():
    """Sources on orthogonal axes: -log(e^4 / ((m-1) e^4 + (L-m) e^0))."""
    masks = torch.arange(12)[None] % 3
    features = torch.eye(3, dtype=torch.float64)[masks]
    e4 = torch.tensor(4., dtype=torch.float64).exp()
    expected = -torch.log(e4 / (3 * e4 + 8))
    torch.testing.assert_close(
        HomologousContrastiveLoss(temperature=.25)(features, masks, 3),
        expected)


def test_logits_stay_float32_under_autocast():
    """Half-precision features give the loss of the same values in float32."""
    features = torch.randn(2, 16, 8).bfloat16()
    masks = torch.stack([torch.randperm(16) % 4 for _ in range(2)])
    loss = HomologousContrastiveLoss()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        value = loss(features, masks, 4)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(features.float(), masks, 4))
