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
from path_contract import (DTYPES, assert_equals_the_reference,
                           assert_selected_like_topk)
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
def test_more_tokens_than_a_power_of_two(path, dtype):
    assert_equals_the_reference(path, *exact_inputs(1, 2, 257, 64, dtype), topk=64)


@settings(max_examples=60)
@given(st.data())
def test_any_shape_and_ties(path, data):
    """Few different keys, so that the K-th score is often tied."""
    shape = [data.draw(st.integers(1, most)) for most in (2, 3, 40, 40)]
    topk = data.draw(st.integers(1, shape[2]))
    dtype = data.draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16]))
    inputs = exact_inputs(*shape, dtype, seed=data.draw(st.integers(0, 999)))
    num_different = data.draw(st.integers(1, shape[2]))
    inputs[1] = inputs[1][:, :, torch.randint(num_different, (shape[2], ))]
    assert_equals_the_reference(path, *inputs, topk=topk)


anything = st.floats(-20, 20, width=32) | st.sampled_from(
    [0., -0., 1e-45, -1e-45, 1e-38, 1., 1.0000001])


@settings(max_examples=150)
@given(st.data())
def test_any_scores_are_selected_like_topk(path, data):
    scores = torch.tensor(
        data.draw(st.lists(anything, min_size=2, max_size=40)))
    assert_selected_like_topk(path, scores, data.draw(st.integers(1, len(scores))))


def test_statistics_in_float64():
    query, key, value, _ = exact_inputs(2, 3, 20, 16, torch.float64)
    _, *statistics = blockwise.forward(query, key, value, 5, 0.3)
    assert_statistics(query, key, 5, 0.3, *statistics)


def test_blocks_of_the_batch_make_no_difference(monkeypatch):
    inputs = exact_inputs(5, 2, 12, 16)
    whole = computed_by(blockwise, *inputs, 5)
    monkeypatch.setattr(blockwise, '_SCORES_IN_BLOCK', 2 * 2 * 12**2)
    for ours, theirs in zip(computed_by(blockwise, *inputs, 5), whole):
        torch.testing.assert_close(ours, theirs)


def test_result_does_not_depend_on_the_number_of_threads():
    inputs = exact_inputs(2, 3, 20, 16)
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 3):
            torch.set_num_threads(number)
            results.append(computed_by(cpu_kernel, *inputs, 5))
    finally:
        torch.set_num_threads(threads)
    for one, three in zip(*results):
        assert torch.equal(one, three)


# A dimension of size 1 can have any stride.
@pytest.mark.parametrize('shape, topk', [
    ((2, 3, 20, 16), 5), ((2, 3, 20, 16), 20), ((1, 2, 8, 16), 4), ((2, 1, 9, 8), 1),
    ((2, 3, 9, 1), 1), ((2, 1, 2, 1), 1)], ids=str)
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
def test_the_operator_and_its_gradients(layouts, dtype, shape, topk):
    """Under autocast too; with all keys it is PyTorch's attention."""
    inputs = exact_inputs(*shape, dtype)
    with torch.autocast('cpu', torch.bfloat16):
        results = computed(homologous_attention, *laid_out(inputs, layouts), topk, 0.3)
    roundings = 2 if dtype == torch.bfloat16 else 8
    if topk == 20 and dtype == torch.float32:  # computed in bfloat16
        roundings = 2**20
    assert_equal_up_to_rounding(results, expected(*inputs, topk, 0.3), roundings)


@pytest.mark.parametrize('topk', [4, 8])
def test_a_gradient_without_strides(topk):
    """That of ``sum()``, for transposed inputs of one sample."""
    inputs = laid_out(exact_inputs(1, 2, 8, 16), ['columns'] * 4)
    inputs[3] = torch.ones(()).expand_as(inputs[0])
    assert_equal_up_to_rounding(
        computed(homologous_attention, *inputs, topk), expected(*inputs, topk))


def test_all_keys_is_plain_attention():
    query, key, value, _ = exact_inputs(2, 2, 13, 8)
    assert torch.equal(homologous_attention(query, key, value, 13),
                       F.scaled_dot_product_attention(query, key, value))


def test_no_samples():
    empty = torch.zeros(0, 2, 13, 8)
    assert homologous_attention(empty, empty, empty, 3).shape == empty.shape


def test_the_backward_takes_the_path_of_the_forward(monkeypatch):
    query, key, value, upstream = exact_inputs(1, 2, 9, 8)
    output = homologous_attention(query.requires_grad_(), key, value, 3)
    monkeypatch.setattr(attention, '_path', lambda query: blockwise)
    called = []
    backward = cpu_kernel.backward
    monkeypatch.setattr(cpu_kernel, 'backward',
                        lambda *args: called.append(True) or backward(*args))
    output.backward(upstream)
    assert called


@pytest.mark.parametrize('use_reentrant', [False, True])
def test_activation_checkpointing(use_reentrant):
    inputs = exact_inputs(2, 2, 11, 8)
    leaves = [tensor.requires_grad_() for tensor in inputs[:3]]
    output = checkpoint(homologous_attention, *leaves, 4, use_reentrant=use_reentrant)
    output.backward(inputs[3])
    for ours, theirs in zip((output, *(leaf.grad for leaf in leaves)),
                            computed(homologous_attention, *inputs, 4)):
        assert torch.equal(ours, theirs)


def test_nothing_as_large_as_the_scores_is_kept_for_the_backward():
    query, key, value, _ = exact_inputs(1, 1, 60, 8)
    sizes = []
    with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: sizes.append(tensor.numel()), lambda nothing: nothing):
        homologous_attention(query.requires_grad_(), key, value, 15)
    assert sizes and max(sizes) == query.numel()


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
@pytest.mark.parametrize('backend, layouts', [
    ('aot_eager', LAYOUTS_OF_FOUR[0]),  # needs no compiler
    *(pytest.param('inductor', layouts, marks=pytest.mark.slow)
      for layouts in LAYOUTS_OF_FOUR)])
def test_compile_sees_one_graph(backend, layouts):
    def scaled_attention(query, key, value):
        return homologous_attention(2 * query, key, value, 4).tanh()

    inputs = exact_inputs(1, 2, 9, 8)
    compiled = torch.compile(scaled_attention, fullgraph=True, backend=backend)
    for ours, theirs in zip(computed(compiled, *laid_out(inputs, layouts)),
                            computed(scaled_attention, *inputs)):
        torch.testing.assert_close(ours, theirs)


def test_autograd_function_of_older_pytorch(monkeypatch):
    monkeypatch.delattr(torch.library, 'custom_op', raising=False)
    spec = importlib.util.spec_from_file_location(
        'mixedae_mm.ops.attention_with_older_pytorch', attention.__file__)
    older = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(older)
    inputs = exact_inputs(1, 2, 9, 8)
    assert_equal_up_to_rounding(
        computed(older.homologous_attention, *inputs, 3), expected(*inputs, 3))
    assert older._attention == older._HomologousAttention.apply


def test_without_a_compiler(monkeypatch, warned):
    """It works, and says once what it costs and why."""
    monkeypatch.setenv('CC', 'no-such-compiler')
    cpu_kernel._library.cache_clear()
    inputs = exact_inputs(1, 2, 9, 8)
    try:
        for _ in range(2):
            assert_equal_up_to_rounding(
                computed(homologous_attention, *inputs, 3), expected(*inputs, 3))
    finally:
        cpu_kernel._library.cache_clear()
    message, = warned
    assert 'no-such-compiler' in message


GOOD, INTEGERS = torch.zeros(1, 2, 9, 8), torch.zeros(1, 2, 9, 8, dtype=torch.long)
WRONG_TENSORS = [
    (torch.zeros(1, 2, 8, 8), r'of one shape .*\(1, 2, 8, 8\)'),
    (torch.zeros(1, 1, 9, 8), r'of one shape .*\(1, 1, 9, 8\)'),
    (torch.zeros(2, 9, 8), r'of one shape .*\(2, 9, 8\)'),
    (GOOD.double(), 'same floating-point dtype .*float64'),
    (GOOD.to('meta'), 'on the same device.* meta'),
]


@pytest.mark.parametrize('arguments, message', [
    *[((GOOD, GOOD, GOOD, topk), f'topk .* 1 to .* 9, got {topk}')
      for topk in (0, -1, 10, 2.5, True, None)],
    *[((GOOD, GOOD, GOOD, 3, scale), f'positive number, got {scale}')
      for scale in (0., -1., float('inf'), float('nan'))],
    *[((*(wrong if at == place else GOOD for at in range(3)), 3), message)
      for wrong, message in WRONG_TENSORS for place in range(3)],
    ((INTEGERS, INTEGERS, INTEGERS, 3), 'floating-point.*int64'),
])
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        homologous_attention(*arguments)
