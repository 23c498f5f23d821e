"""homologous_attention on the CPU: both of its paths, and the operator."""
import importlib.util

import pytest
import torch
import torch.nn.functional as F
from attention_cases import (LAYOUTS_OF_FOUR, assert_equal_up_to_rounding,
                             assert_statistics, computed, computed_by,
                             exact_inputs, expected, laid_out)
from hypothesis import given, settings
from hypothesis import strategies as st
from path_contract import *  # noqa: F403 the tests
from path_contract import DTYPES, assert_selected_like_topk
from torch.utils.checkpoint import checkpoint

from mixedae_mm.ops import attention, blockwise, cpu_kernel, homologous_attention
from mixedae_mm.utils.errors import ConfigurationError


@pytest.fixture(params=[cpu_kernel, blockwise], ids=['kernel', 'blockwise'],
                scope='module')
def path(request):
    return request.param


def test_the_kernel_is_what_runs_here():
    """Without a compiler the tests below would compare the fallback twice."""
    assert cpu_kernel.supports(torch.zeros(1, 1, 1, 1))


@DTYPES
@pytest.mark.parametrize('num_tokens, head_dim, topk', [
    (197, 64, 49), (50, 32, 12), (33, 80, 32), (41, 128, 1), (16, 24, 5),
    (2, 64, 1), (257, 64, 64)
])
def test_equals_the_reference(path, dtype, num_tokens, head_dim, topk):
    inputs = exact_inputs(2, 3, num_tokens, head_dim, dtype)
    assert_equal_up_to_rounding(computed_by(path, *inputs, topk),
                                expected(*inputs, topk))


@settings(max_examples=60)
@given(st.data())
def test_any_shape_and_ties(data):
    """Few different keys, so that the K-th score is often tied."""
    shape = [data.draw(st.integers(1, most)) for most in (2, 3, 40, 40)]
    topk = data.draw(st.integers(1, shape[2]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    inputs = exact_inputs(*shape, dtype, seed=data.draw(st.integers(0, 999)))
    num_different = data.draw(st.integers(1, shape[2]))
    inputs[1] = inputs[1][:, :, torch.randint(num_different, (shape[2], ))]
    for path in (cpu_kernel, blockwise):
        assert_equal_up_to_rounding(computed_by(path, *inputs, topk),
                                    expected(*inputs, topk))


ordinary = st.floats(-20, 20, width=32)
anything = st.floats(-20, 20, width=32) | st.sampled_from(
    [0., -0., 1e-45, -1e-45, 1e-38, 1., 1.0000001])


@settings(max_examples=150)
@given(st.data())
def test_any_scores_are_selected_like_topk(path, data):
    scores = torch.tensor(
        data.draw(st.lists(anything, min_size=2, max_size=40)))
    assert_selected_like_topk(path, scores, data.draw(st.integers(1, len(scores))))


def test_permuting_keys_changes_nothing(path):
    query, key, value, upstream = exact_inputs(2, 2, 30, 16)
    order = torch.randperm(30)
    output, grad_query, grad_key, grad_value = computed_by(
        path, query, key, value, upstream, 8)
    permuted = computed_by(path, query, key[:, :, order], value[:, :, order],
                           upstream, 8)
    for ours, theirs in zip(
        (output, grad_query, grad_key[:, :, order], grad_value[:, :, order]),
            permuted):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('topk', [5, 20])
def test_strides_make_no_difference_to_the_operator(layouts, dtype, topk):
    """Under autocast too; with all keys it is PyTorch's attention."""
    inputs = exact_inputs(2, 3, 20, 16, dtype)
    with torch.autocast('cpu', torch.bfloat16):
        results = computed(homologous_attention, *laid_out(inputs, layouts), topk)
    roundings = 2**20 if topk == 20 and dtype == torch.float32 else 8
    assert_equal_up_to_rounding(results, expected(*inputs, topk), roundings)


@pytest.mark.parametrize('topk', [4, 16])
def test_columns_of_one_batch(topk):
    """``sum().backward()`` gives a gradient whose strides are all 0."""
    torch.manual_seed(0)
    leaves = [torch.randn(1, 2, 8, 16).requires_grad_() for _ in range(3)]
    contiguous = [t.detach().mT.contiguous().requires_grad_() for t in leaves]
    output = homologous_attention(*(t.mT for t in leaves), topk)
    wanted = homologous_attention(*contiguous, topk)
    torch.testing.assert_close(output, wanted)
    output.sum().backward()
    wanted.sum().backward()
    for ours, theirs in zip(leaves, contiguous):
        torch.testing.assert_close(ours.grad, theirs.grad.mT)


@pytest.mark.parametrize('num_heads, num_tokens, head_dim',
                         [(1, 9, 8), (3, 9, 1), (1, 2, 1)])
def test_strides_of_single_rows_and_columns(num_heads, num_tokens, head_dim):
    """A dimension of size 1 can have any stride."""
    inputs = exact_inputs(2, num_heads, num_tokens, head_dim)
    assert_equal_up_to_rounding(
        computed(homologous_attention,
                 *laid_out(inputs, ['sliced', 'columns', 'reversed', 'sliced']), 1),
        expected(*inputs, 1))


def test_statistics_in_float64():
    query, key, value, _ = exact_inputs(2, 3, 20, 16, torch.float64)
    _, *statistics = blockwise.forward(query, key, value, 5, 0.3)
    assert_statistics(query, key, 5, 0.3, *statistics)


def test_the_backward_takes_the_path_of_the_forward(monkeypatch):
    inputs = exact_inputs(1, 2, 9, 8)
    query, key, value, upstream = [t.requires_grad_() for t in inputs]
    output = homologous_attention(query, key, value, 3)
    monkeypatch.setattr(attention, '_path', lambda query: blockwise)
    called = []
    backward = cpu_kernel.backward
    monkeypatch.setattr(cpu_kernel, 'backward',
                        lambda *args: called.append(True) or backward(*args))
    output.backward(upstream)
    assert called


def test_result_does_not_depend_on_the_number_of_threads():
    inputs = exact_inputs(2, 3, 20, 16)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = computed(homologous_attention, *inputs, 5)
        torch.set_num_threads(3)
        three = computed(homologous_attention, *inputs, 5)
    finally:
        torch.set_num_threads(threads)
    for ours, theirs in zip(one, three):
        assert torch.equal(ours, theirs)


def test_blocks_of_the_batch_make_no_difference(monkeypatch):
    inputs = exact_inputs(5, 2, 12, 16)
    whole = computed_by(blockwise, *inputs, 5)
    monkeypatch.setattr(blockwise, '_SCORES_IN_BLOCK', 2 * 2 * 12**2)
    for ours, theirs in zip(computed_by(blockwise, *inputs, 5), whole):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
def test_gradients_of_the_operator(dtype):
    inputs = exact_inputs(2, 2, 11, 8, dtype)
    results = computed(homologous_attention, *inputs, 4, scale=0.3)
    assert_equal_up_to_rounding(results, expected(*inputs, 4, scale=0.3))


@pytest.mark.parametrize('scale', [0., -1., float('inf'), float('nan')])
def test_the_scale_is_positive(scale):
    query, key, value, _ = exact_inputs(1, 1, 5, 4)
    with pytest.raises(ConfigurationError, match='must be a positive number'):
        homologous_attention(query, key, value, 3, scale)


def test_gradcheck():
    query, key, value, _ = exact_inputs(1, 2, 7, 4, torch.float64)
    inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
    assert torch.autograd.gradcheck(
        lambda q, k, v: homologous_attention(q, k, v, 3), inputs)


def test_all_keys_is_plain_attention():
    query, key, value, _ = exact_inputs(2, 2, 13, 8)
    assert torch.equal(homologous_attention(query, key, value, 13),
                       F.scaled_dot_product_attention(query, key, value))


def test_no_samples():
    empty = torch.zeros(0, 2, 13, 8)
    assert homologous_attention(empty, empty, empty, 3).shape == empty.shape


def test_nothing_as_large_as_the_scores_is_kept_for_the_backward():
    query, key, value, _ = exact_inputs(1, 1, 60, 8)
    sizes = []

    def record(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(record, lambda t: t):
        homologous_attention(query.requires_grad_(), key, value, 15)
    assert sizes and max(sizes) == query.numel()


def test_autocast_leaves_scores_in_float32():
    inputs = exact_inputs(1, 2, 20, 16)
    with torch.autocast('cpu', torch.bfloat16):
        results = computed(homologous_attention, *inputs, 5)
    assert_equal_up_to_rounding(results, expected(*inputs, 5))


def test_autocast_around_projections():
    """A layer as it trains: half-precision projections, one gradient."""
    projection = torch.nn.Linear(16, 48)
    tokens = torch.randn(2, 10, 16)
    with torch.autocast('cpu', torch.bfloat16):
        qkv = projection(tokens).view(2, 10, 3, 2, 8).permute(2, 0, 3, 1, 4)
        output = homologous_attention(*qkv, 3)
    output.float().square().sum().backward()
    assert output.dtype == torch.bfloat16
    reference = expected(*qkv.detach(), torch.ones_like(output), 3)[0]
    assert_equal_up_to_rounding([output.detach()], [reference.detach()])
    assert projection.weight.grad.abs().sum() > 0


@pytest.mark.parametrize('use_reentrant', [False, True])
def test_activation_checkpointing(use_reentrant):
    inputs = exact_inputs(2, 2, 11, 8)
    plain = computed(homologous_attention, *inputs, 4)

    def forgetful(query, key, value):
        return checkpoint(homologous_attention, query, key, value, 4,
                          use_reentrant=use_reentrant)

    query, key, value, upstream = inputs
    leaves = [t.detach().requires_grad_() for t in (query, key, value)]
    output = forgetful(*leaves)
    output.backward(upstream)
    for ours, theirs in zip((output, *(leaf.grad for leaf in leaves)), plain):
        assert torch.equal(ours, theirs)


operator = pytest.mark.skipif(
    not hasattr(torch.library, 'custom_op'),
    reason='PyTorch before 2.4 has no custom_op; an autograd.Function is used')


@operator
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16], ids=str)
def test_operator_is_registered_correctly(dtype):
    query, key, value, _ = exact_inputs(1, 2, 9, 8, dtype)
    inputs = [tensor.requires_grad_() for tensor in (query, key, value)]
    torch.library.opcheck(torch.ops.mixedae_mm.homologous_attention.default,
                          (*inputs, 3, 0.5))


def scaled_attention(query, key, value):
    return homologous_attention(2 * query, key, value, 4).tanh()


@operator
def test_compile_sees_one_graph():
    inputs = exact_inputs(1, 2, 9, 8)
    compiled = torch.compile(scaled_attention, fullgraph=True,
                             backend='aot_eager')
    for ours, theirs in zip(computed(compiled, *inputs),
                            computed(scaled_attention, *inputs)):
        torch.testing.assert_close(ours, theirs)


@operator
@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
def test_strides_of_results_are_as_the_compiler_is_told(layouts):
    query, key, value, upstream = laid_out(exact_inputs(2, 3, 9, 8), layouts)
    operators = torch.ops.mixedae_mm
    output, *statistics = operators.homologous_attention(query, key, value, 3, 0.3)
    gradients = operators.homologous_attention_backward(
        upstream, query, key, value, *statistics, 0.3, cpu_kernel.__name__)
    told = (*attention._forward_shapes(query, key, value, 3, 0.3),
            *attention._backward_shapes(upstream, query, key, value, *statistics,
                                        0.3, cpu_kernel.__name__))
    for result, shape in zip((output, *statistics, *gradients), told, strict=True):
        assert result.stride() == shape.stride() and result.dtype == shape.dtype


@operator
@pytest.mark.slow
@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
def test_compile_with_inductor(layouts):
    inputs = exact_inputs(1, 2, 9, 8)
    strided = laid_out(inputs, layouts)
    compiled = torch.compile(scaled_attention, fullgraph=True)
    for ours, theirs in zip(computed(compiled, *strided),
                            computed(scaled_attention, *inputs)):
        torch.testing.assert_close(ours, theirs)


def test_paths_are_found_by_their_names():
    for name, path in attention._PATHS.items():
        assert path.__name__ == name


def test_autograd_function_of_older_pytorch(monkeypatch):
    monkeypatch.delattr(torch.library, 'custom_op', raising=False)
    spec = importlib.util.spec_from_file_location(
        'mixedae_mm.ops.attention_with_older_pytorch', attention.__file__)
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)
    inputs = exact_inputs(1, 2, 9, 8)
    assert_equal_up_to_rounding(
        computed(older.homologous_attention, *inputs, 3),
        expected(*inputs, 3))
    assert older._attention == older._HomologousAttention.apply


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setenv('CC', 'no-such-compiler')
    cpu_kernel._library.cache_clear()
    yield
    cpu_kernel._library.cache_clear()


def test_without_a_compiler(no_compiler, warned):
    """It works, and says once what it costs and why."""
    inputs = exact_inputs(1, 2, 9, 8)
    for _ in range(2):
        assert_equal_up_to_rounding(
            computed(homologous_attention, *inputs, 3), expected(*inputs, 3))
    message, = warned
    assert 'no-such-compiler' in message


@pytest.mark.parametrize('topk', [0, -1, 10, 2.5, True, None])
def test_k_outside_its_range(topk):
    tensor = torch.zeros(1, 2, 9, 8)
    with pytest.raises(ConfigurationError, match='from 1 to .* 9, got'):
        homologous_attention(tensor, tensor, tensor, topk)


@pytest.mark.parametrize('other', [
    torch.zeros(1, 2, 8, 8), torch.zeros(1, 1, 9, 8), torch.zeros(2, 9, 8),
    torch.zeros(1, 2, 9, 8, dtype=torch.float64),
    torch.zeros(1, 2, 9, 8, device='meta')
])
def test_mismatched_tensors(other):
    tensor = torch.zeros(1, 2, 9, 8)
    for arguments in ((other, tensor, tensor), (tensor, other, tensor),
                      (tensor, tensor, other)):
        with pytest.raises(ConfigurationError, match='query, key and value'):
            homologous_attention(*arguments, 3)


def test_integers_are_refused():
    tensor = torch.zeros(1, 2, 9, 8, dtype=torch.long)
    with pytest.raises(ConfigurationError, match='floating-point'):
        homologous_attention(tensor, tensor, tensor, 3)
