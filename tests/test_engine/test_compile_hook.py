"""Compiled losses: the same training up to rounding, and no failure without it."""
import copy
from types import SimpleNamespace

import pytest
import torch
from mmengine.optim import OptimWrapper
from small_vit import mixedae

from mixedae_mm.engine import CompileHook
from mixedae_mm.engine.hooks import compile_hook
from mixedae_mm.utils.errors import ConfigurationError

pytestmark = pytest.mark.skipif(
    not hasattr(torch.compiler, 'set_stance'), reason='CompileHook needs PyTorch 2.6')


@pytest.fixture(scope='module')
def model():
    return mixedae(num_sources=4)


@pytest.fixture(scope='module')
def batch(model):
    torch.manual_seed(0)
    images = torch.randint(0, 256, (8, 3, 32, 32), dtype=torch.uint8)
    return model.data_preprocessor(dict(inputs=images), training=True)['inputs']


def compiled(model, hook, **runner):
    """A copy of the model after the hook."""
    model = copy.deepcopy(model)
    hook.before_train(SimpleNamespace(model=model, **runner))
    return model


def losses_and_gradients(model, batch):
    model.zero_grad()
    losses = model.loss(batch, [])
    sum(losses.values()).backward()
    return losses, [p.grad for p in model.parameters() if p.requires_grad]


def test_one_graph_with_the_losses_and_gradients_of_eager(
        model, batch, monkeypatch):
    # No graph breaks; the code that PyTorch generates from the graph is its own.
    hook = CompileHook(True, fullgraph=True, backend='aot_eager')
    fast = compiled(model, hook)
    torch.testing.assert_close(
        losses_and_gradients(fast, batch), losses_and_gradients(model, batch),
        rtol=1e-4, atol=1e-5)
    assert fast.state_dict().keys() == model.state_dict().keys()
    said = []
    monkeypatch.setattr(
        compile_hook, 'print_log', lambda text, logger: said.append(text))
    for step in range(2):
        hook.after_train_iter(None, step)
    assert len(said) == 1 and 'The first step took' in said[0]


def test_accumulated_gradients_outlive_a_cuda_graph(model, batch):
    """Its replay writes into the memory of the gradients that it returned before."""
    hook = CompileHook(True)
    optimizer = torch.optim.SGD(model.parameters(), 0.)
    wrapper = OptimWrapper(optimizer, accumulative_counts=2)
    runner = SimpleNamespace(model=copy.deepcopy(model), optim_wrapper=wrapper)
    assert CompileHook(mode='reduce-overhead').uses_cuda_graphs
    hook.uses_cuda_graphs = hook.is_compiled = True  # a CPU has none
    _, expected = losses_and_gradients(model, batch)
    losses_and_gradients(runner.model, batch)
    of_the_graph = [p.grad for p in runner.model.parameters() if p.requires_grad]
    wrapper._inner_count = 1
    hook.after_train_iter(runner, 0)
    for gradient in of_the_graph:
        gradient.fill_(torch.nan)
    sum(runner.model.loss(batch, []).values()).backward()
    torch.testing.assert_close(
        [p.grad for p in runner.model.parameters() if p.requires_grad],
        [2 * gradient for gradient in expected], rtol=1e-4, atol=1e-5)


def test_what_cannot_be_compiled_is_trained_without(model, batch):

    def broken(graph, inputs):
        raise RuntimeError('no compiler here')

    slow = compiled(model, CompileHook(True, backend=broken))
    for _ in range(2):
        torch.testing.assert_close(
            slow.loss(batch, []), model.loss(batch, []), rtol=0, atol=0)


def test_errors_of_the_model_are_not_taken_for_errors_of_the_compiler(model, batch):
    wrong = dict(batch, clean=batch['clean'][..., :16])
    with pytest.raises(Exception, match='the model is built for'):
        compiled(model, CompileHook(True, backend='eager')).loss(wrong, [])


@pytest.mark.parametrize('capability, expected', [
    (None, False), ((7, 5), False), ((8, 0), True)])
def test_auto_depends_on_the_gpu(model, monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    hook = CompileHook()
    assert ('loss' in vars(compiled(model, hook))) is expected is hook.is_compiled


def test_a_sharded_model_is_left_alone(model):
    """Of FSDP, say: each process has parts of its tensors only."""
    strategy = type('FSDPStrategy', (), {})()
    assert 'loss' not in vars(compiled(model, CompileHook(True), strategy=strategy))


def test_wrong_switches_and_old_versions(monkeypatch):
    with pytest.raises(ConfigurationError, match="'yes', but must be one of .*'auto'"):
        CompileHook(enabled='yes')
    monkeypatch.setattr(compile_hook, 'pytorch_is', lambda version: False)
    with pytest.raises(ConfigurationError, match='2.6 or newer'):
        CompileHook(enabled=True)
    CompileHook()
