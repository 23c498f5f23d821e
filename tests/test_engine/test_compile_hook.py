"""Compiled losses: the same training up to rounding, and no failure without it."""
import copy

import pytest
import torch
from mmengine.registry import MODELS

import mixedae_mm  # noqa: F401
from mixedae_mm.engine import CompileHook
from mixedae_mm.engine.hooks import compile_hook
from mixedae_mm.utils.errors import ConfigurationError

pytestmark = pytest.mark.skipif(
    not hasattr(torch.compiler, 'set_stance'), reason='CompileHook needs PyTorch 2.6')
MODEL = dict(
    type='MixedAE',
    backbone=dict(
        type='MixedAEViT', img_size=32, patch_size=8,
        arch=dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)),
    neck=dict(type='MixedAEDecoder', embed_dim=32, decoder_embed_dim=32,
              decoder_depth=1, decoder_num_heads=2),
    head=dict(type='MixedAEPretrainHead', embed_dim=32))


class Running:
    """What the hook asks of a runner."""

    def __init__(self, model):
        self.model = model


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    model = MODELS.build(MODEL)
    model.init_weights()
    return model


@pytest.fixture(scope='module')
def batch(model):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    return model.data_preprocessor(dict(inputs=images), training=True)['inputs']


def losses_and_gradients(model, batch):
    model.zero_grad()
    losses = model.loss(batch, [])
    sum(losses.values()).backward()
    return losses, [p.grad for p in model.parameters() if p.requires_grad]


def test_one_graph_with_the_losses_and_gradients_of_eager(model, batch):
    compiled = copy.deepcopy(model)
    # No graph breaks; the code that PyTorch generates from the graph is its own.
    hook = CompileHook(enabled=True, fullgraph=True, backend='aot_eager')
    hook.before_train(Running(compiled))
    torch.testing.assert_close(
        losses_and_gradients(compiled, batch), losses_and_gradients(model, batch),
        rtol=1e-4, atol=1e-5)
    assert compiled.state_dict().keys() == model.state_dict().keys()


def test_what_cannot_be_compiled_is_trained_without(model, batch, caplog):

    def broken(graph, inputs):
        raise RuntimeError('no compiler here')

    compiled = copy.deepcopy(model)
    CompileHook(enabled=True, backend=broken).before_train(Running(compiled))
    for _ in range(2):
        torch.testing.assert_close(
            compiled.loss(batch, []), model.loss(batch, []), rtol=0, atol=0)


def test_errors_of_the_model_are_not_taken_for_errors_of_the_compiler(model, batch):
    compiled = copy.deepcopy(model)
    CompileHook(enabled=True, backend='eager').before_train(Running(compiled))
    wrong = dict(batch, clean=batch['clean'][..., :16])
    with pytest.raises(Exception, match='the model is built for'):
        compiled.loss(wrong, [])


@pytest.mark.parametrize('capability, is_compiled', [((7, 5), False), ((8, 0), True)])
def test_auto_depends_on_the_gpu(model, monkeypatch, capability, is_compiled):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    watched = copy.deepcopy(model)
    hook = CompileHook()
    hook.before_train(Running(watched))
    assert hook.is_compiled is is_compiled
    assert ('loss' in vars(watched)) is is_compiled


def test_the_cpu_is_left_alone(model, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    watched = copy.deepcopy(model)
    CompileHook().before_train(Running(watched))
    assert 'loss' not in vars(watched)


def test_a_sharded_model_is_left_alone(model):
    """Of FSDP, say: each process has parts of its tensors only."""
    watched = Running(copy.deepcopy(model))
    watched.strategy = type('FSDPStrategy', (), {})()
    CompileHook(enabled=True).before_train(watched)
    assert 'loss' not in vars(watched.model)


def test_wrong_switches_and_old_versions(monkeypatch):
    with pytest.raises(ConfigurationError, match="'yes', but must be one of .*'auto'"):
        CompileHook(enabled='yes')
    monkeypatch.setattr(compile_hook, 'pytorch_is', lambda version: False)
    with pytest.raises(ConfigurationError, match='2.6 or newer'):
        CompileHook(enabled=True)
    CompileHook()
