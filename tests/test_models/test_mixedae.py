"""Options, bad input, mixed precision and interoperability of the model."""
from contextlib import nullcontext

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.utils import digit_version
from small_vit import ARCH, backbone, config, randomize

from mixedae_mm.utils.errors import ConfigurationError


def build(**options):
    torch.manual_seed(0)
    model = MODELS.build(config(**options))
    for module in model.modules():
        if hasattr(module, 'init_cfg'):
            module.init_cfg = None  # xavier logs a page; not needed here
    return model


def batch(size=8, side=32, **more):
    generator = torch.Generator().manual_seed(1)
    return dict(inputs=torch.randint(0, 256, (size, 3, side, side), dtype=torch.uint8,
                                     generator=generator), data_samples=None, **more)


def losses_of(model, data=None):
    torch.manual_seed(2)
    data = model.data_preprocessor(data or batch(), training=True)
    return model(**data, mode='loss')


def with_weights_of(model, **options):
    """Another model with the same weights."""
    other = build(**options)
    other.load_state_dict(model.state_dict())
    return other


@pytest.mark.parametrize('mode, samples', [('compose', 2), ('full', 8)])
def test_preprocessor_contract(mode, samples):
    model = build(data_preprocessor=dict(mode=mode))
    raw = batch()
    out = model.data_preprocessor(raw, training=True)['inputs']
    assert {name: tuple(tensor.shape) for name, tensor in out.items()} == dict(
        mixed=(samples, 3, 32, 32), clean=(8, 3, 32, 32), mix_mask=(samples, 16))
    assert out['mix_mask'].dtype == torch.int64
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    torch.testing.assert_close(out['clean'], (raw['inputs'].float() - mean) / std)
    flipped = build(data_preprocessor=dict(bgr_to_rgb=True)).data_preprocessor
    for preprocessor, images in ((model.data_preprocessor, raw['inputs']),
                                 (model.data_preprocessor, list(raw['inputs'])),
                                 (flipped, raw['inputs'].flip(1))):
        plain = preprocessor(dict(raw, inputs=images))['inputs']
        assert torch.equal(plain, out['clean'])


MASK = torch.arange(16).repeat(2, 1) % 4


def test_a_given_mask_is_used():
    out = build().data_preprocessor(batch(mix_mask=MASK), training=True)['inputs']
    assert torch.equal(out['mix_mask'], MASK)


@pytest.mark.parametrize('data, message', [
    (batch(mix_mask=MASK[:1]), r'\(1, 16\).*\(2, 16\)'),
    *[(batch(mix_mask=wrong), 'int64.* 0 to 3')
      for wrong in (MASK + 1, MASK - 1, MASK.int())],
    (batch(6), 'batch of 6.*multiple of 4'),
    (batch(side=30), '30 x 30.*patches of 8'),
    (dict(inputs=[torch.zeros(3, 32, 32), torch.zeros(3, 32, 40)]),
     r'several sizes, .*\(3, 32, 32\), \(3, 32, 40\)'),
    (dict(inputs=torch.zeros(3, 32, 32)), r'\(3, 32, 32\), but must be a batch'),
    (batch(side=16), r'images are \(3, 16, 16\).*built for \(3, 32, 32\)'),
])
def test_bad_batches_are_refused(data, message):
    with pytest.raises(ConfigurationError, match=message):
        losses_of(build(), data)


@pytest.mark.parametrize('options, present', [
    (dict(), {'loss_recon', 'loss_homocon'}),
    (dict(head=dict(contrast_loss=None)), {'loss_recon'}),
    (dict(neck=None), {'loss_homocon'})])
def test_the_losses_that_are_in_use(options, present):
    assert set(losses_of(build(**options))) == present


def contrast(**options):
    return dict(contrast_loss=dict(type='HomologousContrastiveLoss', **options))


@pytest.mark.parametrize('part, value', [
    ('backbone', dict(k_ratio=.5)),
    ('backbone', dict(num_global_layers=2)),
    ('backbone', dict(homologous_attention=False)),
    ('head', dict(contrast_weight=.2)),
    ('head', dict(contrast_input='before_norm')),
    ('head', contrast(positives='mean')),
    ('head', contrast(temperature=.5)),
    ('head', dict(norm_pix=False)),
])
def test_each_option_changes_the_losses(part, value):
    """Weights are equal, so an option without effect would show."""
    model = build()
    before, after = losses_of(model), losses_of(
        with_weights_of(model, **{part: value}))
    assert sum(before.values()) != sum(after.values())
    if 'contrast_weight' in value:
        torch.testing.assert_close(after['loss_homocon'], 2 * before['loss_homocon'])


@pytest.mark.parametrize('options, expected', [
    (dict(num_global_layers=0), [4, 4, 4, 4]), (dict(), [None, 4, 4, 4]),
    (dict(num_global_layers=4), [None] * 4), (dict(k_ratio=1), [None] * 4)])
def test_which_layers_are_homologous(options, expected):
    """K of each layer; None is global attention, CLS included."""
    assert build(backbone=options).backbone.topks == expected


def test_gradient_checkpointing_changes_nothing():
    plain = build()
    checkpointed = with_weights_of(
        plain, backbone=dict(with_cp=True), neck=dict(with_cp=True))
    for model in (plain, checkpointed):
        sum(losses_of(model).values()).backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters()):
        torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize('dtype', [
    torch.float32, torch.bfloat16,
    pytest.param(torch.float16, marks=pytest.mark.skipif(
        digit_version(torch.__version__) < digit_version('2.3'),
        reason='this PyTorch has no float16 autocast on CPUs'))
])
def test_trains_under_autocast(dtype):
    """Ten steps: losses finite and falling, parameters finite."""
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    data = model.data_preprocessor(batch(), training=True)
    history = []
    for _ in range(10):
        with (nullcontext() if dtype == torch.float32 else
              torch.autocast('cpu', dtype=dtype)):
            total = sum(model(**data, mode='loss').values())
        assert total.dtype == torch.float32
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        history.append(total.item())
    assert all(p.isfinite().all() for p in model.parameters())
    assert history[-1] < history[0]


def test_segments_reach_only_their_patches():
    """CLS never gets one."""
    vit = build().backbone
    image = torch.randn(1, 3, 32, 32)
    segments = torch.randn_like(vit.segment_embed)[MASK[:1]]
    difference = vit.embed(image, segments)[0] - vit.embed(image)[0]
    assert torch.equal(difference[:, 0], torch.zeros(1, 32))
    torch.testing.assert_close(difference[:, 1:], segments)


def test_homologous_attention_in_transfer_is_asked_for():
    image = torch.randn(1, 3, 32, 32)
    outputs = [randomize(backbone(homologous_in_transfer=asked)).eval()(image)[0]
               for asked in (False, True)]
    assert not torch.allclose(*outputs)


@pytest.mark.parametrize('options, message', [
    (dict(data_preprocessor=dict(mix_ratio=.3)), 'mix_ratio is 0.3'),
    (dict(data_preprocessor=dict(mix_ratio=.75)), r'mix_ratio is 0.75.*0.5\]'),
    (dict(data_preprocessor=dict(mode='half')), "mode is 'half'.*compose.*full"),
    (dict(data_preprocessor=dict(patch_size=16)),
     'data_preprocessor.patch_size is 16.*says 8'),
    (dict(data_preprocessor=dict(std=[1, 0, 1])), 'std is 0'),
    (dict(backbone=dict(img_size=30)), '30 x 30 pixels.*patches of 8'),
    (dict(backbone=dict(k_ratio=0)), r'k_ratio is 0.*\(0, 1\]'),
    (dict(backbone=dict(k_ratio=1.5)), r'k_ratio is 1.5.*\(0, 1\]'),
    (dict(backbone=dict(k_ratio=.01)), 'keeps no key'),
    (dict(backbone=dict(num_global_layers=5)), r'is 5.*\[0, 4\]'),
    (dict(backbone=dict(num_global_layers=True)), 'is True'),
    (dict(backbone=dict(final_norm=False)), 'final_norm must be True'),
    (dict(backbone=dict(with_cls_token=False)), 'with_cls_token must be True'),
    (dict(backbone=dict(patch_cfg=dict(stride=4))), r'\(8, 8\).*\(4, 4\)'),
    (dict(backbone=dict(layer_cfgs=dict(attn_drop_rate=.1))), 'attn_drop_rate'),
    (dict(backbone=dict(arch=dict(ARCH, embed_dims=30))), 'embed_dims is 30'),
    (dict(backbone=dict(out_indices=[4])), r'\[4\].*outputs 0 to 3'),
    (dict(backbone=dict(num_sources=2)), 'backbone.num_sources is 2.*says 4'),
    (dict(neck=dict(grid=[2, 8])), r'neck.grid is \[2, 8\].*\(4, 4\)'),
    (dict(neck=dict(decoder_depth=0)), 'decoder_depth is 0'),
    (dict(neck=dict(embed_dim=64)), 'neck.embed_dim is 64.*says 32'),
    (dict(neck=None, head=dict(contrast_loss=None)), 'no loss'),
    (dict(head=dict(proj_dim=0)), 'proj_dim is 0'),
    (dict(head=dict(contrast_input='both')), "contrast_input is 'both'"),
    (dict(head=dict(contrast_weight=-1)), 'contrast_weight is -1'),
    (dict(head=contrast(temperature=0)), 'temperature is 0'),
    (dict(head=contrast(positives='some')), "positives is 'some'.*separate.*mean"),
])
def test_bad_configurations_are_refused_when_built(options, message):
    with pytest.raises(ConfigurationError, match=message):
        build(**options)


def test_too_few_patches_to_contrast():
    with pytest.raises(ConfigurationError, match='4 patches from 4 sources'):
        losses_of(build(backbone=dict(img_size=16)), batch(side=16))


def test_a_transfer_backbone_does_not_encode_mixes():
    with pytest.raises(ConfigurationError, match='built for transfer'):
        backbone()(torch.randn(1, 3, 32, 32), torch.zeros(1, 16).long())


def test_lists_of_configs_are_tuples():
    """Config files that were dumped and read again have lists everywhere."""
    def of_kind(kind):
        return dict(
            backbone=dict(img_size=kind((16, 32)), out_indices=kind([-1])),
            neck=dict(grid=kind((2, 4))),
            data_preprocessor=dict(mean=kind((1., 2., 3.)), std=kind((4., 5., 6.))))
    tuples = build(**of_kind(tuple))
    lists = with_weights_of(tuples, **of_kind(list))
    assert lists.image_shape == tuples.image_shape == (3, 16, 32)
    assert lists.neck.grid == tuples.neck.grid == (2, 4)
    assert lists.backbone.out_indices == tuples.backbone.out_indices == [3]
    data = batch()
    data['inputs'] = data['inputs'][..., :16, :]
    torch.testing.assert_close(
        losses_of(lists, data), losses_of(tuples, data), rtol=0, atol=0)
