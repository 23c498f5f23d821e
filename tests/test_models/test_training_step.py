"""What a training step must and must not do: gradients, waits, graph breaks."""
from contextlib import contextmanager, nullcontext
from itertools import cycle, product
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from mmengine.utils import digit_version
from small_vit import config
from waiting import Waits

from mixedae_mm.engine import NonFiniteLossHook
from mixedae_mm.models import MixedAEViT

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)
CONTRAST = [None, 'after_norm', 'before_norm']


def build(backbone=(), neck=(), **options):
    model = MODELS.build(config(
        backbone=dict(dict(arch=ARCH, img_size=16, patch_size=4), **dict(backbone)),
        neck=neck if neck is None else dict(dict(
            decoder_embed_dim=16, decoder_depth=2), **dict(neck)), **options))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=.3)
    return model


def mixed_batch(model, num_images=4):
    images = torch.randint(0, 256, (num_images, 3, 16, 16), dtype=torch.uint8)
    return model.data_preprocessor(
        dict(inputs=images, data_samples=None), training=True)['inputs']


# Options that could leave a parameter unused, in all combinations ...
PARTS = [(neck, contrast) for neck, contrast in product([(), None], CONTRAST)
         if neck is not None or contrast is not None]
BACKBONES = [dict(zip(('out_type', 'segment_embedding', 'frozen_stages', 'pre_norm'),
                      values))
             for values in product(['raw', 'cls_token', 'featmap', 'avg_featmap'],
                                   [True, False], [-1, 1, 2], [False, True])]
# ... and others, each beside some of those.
OTHERS = [
    dict(), dict(backbone=dict(with_cp=True), neck=dict(with_cp=True)),
    dict(backbone=dict(homologous_attention=False)),
    dict(backbone=dict(k_ratio=1, qkv_bias=False)),
    dict(backbone=dict(num_global_layers=0), head=dict(norm_pix=False)),
    dict(backbone=dict(layer_scale_init_value=.1), data_preprocessor=dict(mode='full')),
    dict(backbone=dict(drop_rate=.1, drop_path_rate=.1), neck=dict(decoder_depth=1)),
    dict(data_preprocessor=dict(mix_ratio=.5), head=dict(contrast_weight=0)),
]


@pytest.mark.parametrize('neck, contrast', PARTS)
def test_every_trainable_parameter_gets_a_gradient(neck, contrast):
    """DistributedDataParallel stops in the second step on one that does not."""
    kinds = cycle(['separate', 'mean'])
    for options, others in zip(BACKBONES, cycle(OTHERS)):
        head = dict(contrast_loss=None)
        if contrast is not None:
            head = dict(contrast_input=contrast, contrast_loss=dict(
                type='HomologousContrastiveLoss', positives=next(kinds)))
        model = build(
            dict(options, **others.get('backbone', {})),
            neck if neck is None else others.get('neck', {}),
            head=dict(head, **others.get('head', {})),
            data_preprocessor=others.get('data_preprocessor', {}))
        model.train()
        sum(model(mixed_batch(model), mode='loss').values()).backward()
        without = [name for name, parameter in model.named_parameters()
                   if parameter.requires_grad and parameter.grad is None]
        assert not without, (without, options, others)


@pytest.mark.parametrize('out_indices', [0, (0, 1), -1])
@pytest.mark.parametrize('final_norm', [True, False])
def test_every_trainable_parameter_gets_a_gradient_in_transfer(out_indices, final_norm):
    """Also where what comes after the last output is not used."""
    backbone = MixedAEViT(ARCH, 16, 4, out_type='featmap', out_indices=out_indices,
                          final_norm=final_norm)
    sum(out.sum() for out in backbone(torch.randn(2, 3, 16, 16))).backward()
    assert all((p.grad is not None) == p.requires_grad for p in backbone.parameters())
    assert backbone.layers[1].ffn.layers[1].weight.requires_grad == (out_indices != 0)


def test_frozen_stages_freeze_the_segments_too():
    for frozen_stages, trained in [(-1, True), (0, True), (1, False), (2, False)]:
        backbone = build(dict(frozen_stages=frozen_stages)).backbone.train()
        assert backbone.segment_embed.requires_grad is trained


def test_features_of_whole_images_in_pretraining():
    """``avg_featmap`` has a norm of its own, which stays as it starts."""
    backbone = build(dict(out_type='avg_featmap')).backbone
    features, = backbone(torch.randn(2, 3, 16, 16))
    assert features.shape == (2, 16)
    assert {name for name, p in backbone.named_parameters() if not p.requires_grad
            } == {'pos_embed', 'ln2.weight', 'ln2.bias'}


WITH_CP = dict(backbone=dict(with_cp=True), neck=dict(with_cp=True))
MEAN = dict(contrast_loss=dict(type='HomologousContrastiveLoss', positives='mean'))
FULL = dict(data_preprocessor=dict(mode='full', mix_ratio=1 / 3))


@pytest.mark.parametrize('options', [
    dict(), WITH_CP, dict(head=MEAN), FULL,
    dict(backbone=dict(homologous_attention=False), head=dict(norm_pix=False)),
], ids=['default', 'with_cp', 'mean', 'full', 'naive'])
@pytest.mark.parametrize('autocast', [False, True])
def test_a_step_never_waits_for_the_device(options, autocast):
    model = build(**options)
    with Waits() as waits:
        inputs = mixed_batch(model, 12)
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            losses = model(inputs, mode='loss')
        sum(losses.values()).backward()
    assert not waits.found
    assert model.backbone.segment_embed.grad.abs().sum() > 0


def checked_steps(device, guard=nullcontext, **wrapper):
    """Steps as the configs train them; gives what each leaves, the last one with
    an infinite gradient."""
    model = build().to(device)
    wrapper = build_optim_wrapper(model, dict(
        wrapper, optimizer=dict(type='AdamW', fused=True)))
    wrapper.initialize_count_status(model, 0, 5)
    hook = NonFiniteLossHook(max_skips=1, max_dumps=0)
    runner = SimpleNamespace(model=model, optim_wrapper=wrapper, iter=0, logger=Mock(),
                             message_hub=MessageHub('a whole step'))
    hook.before_train(runner)
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8)
    if device == 'cuda':
        images = images.pin_memory()
    for step in range(5):
        if step == 4:
            model.backbone.cls_token.register_hook(lambda gradient: gradient / 0)
        hook.before_train_iter(runner, step)
        with guard() if step > 1 else nullcontext():  # before, it chooses kernels
            outputs = model.train_step(dict(inputs=images, data_samples=None), wrapper)
        hook.after_train_iter(runner, step, outputs=outputs)
        assert {value.device.type for value in outputs.values()} == {'cpu'}
        yield [parameter.detach().clone() for parameter in model.parameters()]


@contextmanager
def refusing_to_wait():
    torch.cuda.set_sync_debug_mode('error')
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode('default')


@pytest.mark.parametrize('device', [
    pytest.param('cpu', marks=pytest.mark.skipif(
        digit_version(torch.__version__) < digit_version('2.4'),
        reason='no fused AdamW on a CPU')),
    pytest.param('cuda', marks=[pytest.mark.gpu, pytest.mark.skipif(
        not torch.cuda.is_available(), reason='there is no CUDA device')])])
def test_the_device_leaves_out_a_bad_update_and_nothing_waits(device):
    *_, before, after, last = checked_steps(device) if device == 'cpu' else (
        checked_steps(device, refusing_to_wait, type='AmpOptimWrapper',
                      dtype='bfloat16', loss_scale=dict(enabled=False)))
    assert not all(map(torch.equal, before, after))
    assert all(map(torch.equal, after, last))


needs_operators = pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.6'),
    reason='compiling is asked for from PyTorch 2.6 on')


@needs_operators
@pytest.mark.parametrize('autocast, options', [
    (False, dict()), (True, dict()),
    (True, dict(head=dict(MEAN, contrast_input='before_norm'))),
    (False, {**WITH_CP, **FULL}),
], ids=['default', 'default bfloat16', 'mean bfloat16', 'with_cp full'])
def test_compiled_in_one_graph_equals_eager(autocast, options):
    """Inductor itself compiles in tests/test_analysis/test_training_hooks.py."""
    model = build(**options)
    inputs = mixed_batch(model, 12)
    results = []
    torch.compiler.reset()
    for loss in (model.loss, torch.compile(model.loss, fullgraph=True,
                                           backend='aot_eager')):
        model.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
            losses = loss(inputs, None)
        sum(losses.values()).backward()
        results.append((losses, {
            name: p.grad.clone() for name, p in model.named_parameters()
            if p.requires_grad}))
    tolerance = dict(rtol=.05, atol=.05) if autocast else dict(rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*results, **tolerance)


@needs_operators
def test_compiled_once_for_all_steps():
    """Other images and masks of one shape do not compile again."""
    model = build()
    torch.compiler.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend('aot_eager')
    compiled = torch.compile(model.loss, fullgraph=True, backend=counter)
    for _ in range(3):
        sum(compiled(mixed_batch(model, 8), None).values()).backward()
    assert counter.frame_count == 1
