"""homologous_attention on a GPU: the fused kernels as they are compiled."""
import pytest
import torch
from attention_cases import (LAYOUTS_OF_FOUR, assert_equal_up_to_rounding,
                             computed, exact_inputs, expected, laid_out)

from mixedae_mm.ops import attention, blockwise, homologous_attention

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(),
                       reason='there is no CUDA device'),
]
DTYPES = pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)


def inputs_on_gpu(*shape, dtype=torch.bfloat16):
    return exact_inputs(*shape, dtype=dtype, device='cuda')


def test_the_fused_kernel_is_what_runs_here():
    """Otherwise the tests below would look at the fallback."""
    query, *_ = inputs_on_gpu(1, 1, 197, 64)
    assert attention._path(query) is attention._triton_kernel()


@DTYPES
@pytest.mark.parametrize('head_dim', [32, 64, 80, 128])
@pytest.mark.parametrize('num_tokens', [16, 37, 197, 256, 257, 1024])
def test_equals_the_reference(dtype, num_tokens, head_dim):
    """float32 with more than 256 tokens is the fallback's; with fewer, its
    products are sums of three of tensor cores, which round more often."""
    inputs = inputs_on_gpu(2, 3, num_tokens, head_dim, dtype=dtype)
    for topk in (1, num_tokens // 4, num_tokens - 1):
        assert_equal_up_to_rounding(
            computed(homologous_attention, *inputs, topk),
            expected(*inputs, topk),
            roundings=16 if dtype == torch.float32 else 8)


@DTYPES
@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
def test_strides_make_no_difference(dtype, layouts):
    inputs = inputs_on_gpu(2, 3, 37, 64, dtype=dtype)
    for ours, theirs in zip(
            computed(homologous_attention, *laid_out(inputs, layouts), 9),
            computed(homologous_attention, *inputs, 9)):
        assert torch.equal(ours, theirs)


@DTYPES
def test_ties_stay(dtype):
    query, key, value, upstream = inputs_on_gpu(2, 2, 60, 64, dtype=dtype)
    inputs = query, key[:, :, torch.arange(60) // 3], value, upstream
    for topk in (1, 4, 15, 50):
        assert_equal_up_to_rounding(
            computed(homologous_attention, *inputs, topk),
            expected(*inputs, topk))


def test_backward_keeps_what_the_forward_kept():
    """With scores that do round, every query's weights sum to one in the
    backward: the gradient of all values is then the sum of the upstream's."""
    query, key, value = (torch.randn(16, 12, 197, 64, device='cuda',
                                     dtype=torch.bfloat16) for _ in range(3))
    upstream = torch.ones_like(value)
    *_, grad_value = computed(homologous_attention, query, key, value, upstream, 49)
    torch.testing.assert_close(
        grad_value.double().sum(2), upstream.double().sum(2), rtol=5e-3, atol=0)


def test_no_memory_for_all_scores():
    shape = (64, 12, 1024, 64)
    inputs = inputs_on_gpu(*shape)
    computed(homologous_attention, *(tensor[:1] for tensor in inputs), 256)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    computed(homologous_attention, *inputs, 256)
    extra = torch.cuda.max_memory_allocated() - before
    assert extra < 6 * inputs[0].numel() * inputs[0].element_size()
    assert extra < 64 * 12 * 1024**2  # one byte for each score


def test_autocast_and_compile_in_one_graph():
    projection = torch.nn.Linear(64, 192).cuda()

    def layer(tokens):
        qkv = projection(tokens).view(4, 197, 3, 2, 32).permute(2, 0, 3, 1, 4)
        return homologous_attention(*qkv, 49).transpose(1, 2).flatten(2)

    tokens = torch.randn(4, 197, 64, device='cuda')
    results = []
    for function in (layer, torch.compile(layer, fullgraph=True)):
        with torch.autocast('cuda', torch.bfloat16):
            output = function(tokens)
        projection.zero_grad()
        output.float().square().sum().backward()
        results.append((output, projection.weight.grad.clone()))
    torch.testing.assert_close(*results, rtol=2e-2, atol=2e-2)


def test_rows_that_do_not_fit_fall_back():
    query, *_ = inputs_on_gpu(1, 1, 1025, 64)
    assert attention._path(query) is blockwise
