"""What every path of homologous attention does, see mixedae_mm/ops/attention.py.

Not collected by itself: a test module imports these tests and defines the fixture
``path``, a module with a ``forward`` and a ``backward``.
"""
import pytest
import torch
from attention_cases import (LAYOUTS_OF_FOUR, assert_equal_up_to_rounding,
                             assert_statistics, computed_by, exact_inputs, expected,
                             laid_out)

from mixedae_mm.ops import blockwise, topk_mask

DTYPES = pytest.mark.parametrize(
    'dtype', [torch.float32, torch.bfloat16, torch.float16], ids=str)


def test_every_k(path):
    inputs = exact_inputs(1, 1, 9, 16)
    for topk in range(1, 10):
        assert_equal_up_to_rounding(computed_by(path, *inputs, topk),
                                    expected(*inputs, topk))


@pytest.mark.parametrize('topk', [1, 4, 7])
def test_ties_stay(path, topk):
    query, key, value, upstream = exact_inputs(1, 2, 21, 16)
    key = key[:, :, torch.arange(21) // 3]  # each key three times
    inputs = query, key, value, upstream
    assert_equal_up_to_rounding(computed_by(path, *inputs, topk),
                                expected(*inputs, topk))


def test_keys_that_all_tie_are_all_kept(path):
    query, key, value, _ = exact_inputs(1, 2, 21, 16)
    key = key[:, :, :1].expand_as(key)
    output, *_ = path.forward(query, key, value, 4, 0.25)
    torch.testing.assert_close(
        output, value.mean(2, keepdim=True).expand_as(output))


@pytest.mark.parametrize('topk', [1, 3, 5, 6, 10])
def test_awkward_scores_are_selected_like_topk(path, topk):
    """Zeros of both signs, neighbours, ties and numbers of every size."""
    assert_selected_like_topk(path, torch.tensor([
        0., -0., 1e-38, -1e-38, 1., 1., 1.0000001, 0.99999994, -15., 3e-20, 20.
    ]), topk)


def assert_selected_like_topk(path, scores, topk):
    """Given scores: one query dimension, values that show the softmax."""
    one_hot = torch.eye(len(scores))
    query, key = torch.zeros(2, len(scores), len(scores))
    query[:, 0] = 1
    key[:, 0] = scores
    output, *_ = path.forward(*(t[None, None] for t in (query, key, one_hot)),
                              topk, 1.)
    kept = topk_mask(scores, topk)
    assert torch.equal(output[0, 0] > 0, kept.expand_as(one_hot))


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_what_is_not_finite_reaches_the_output(path, bad):
    query, key, value, _ = exact_inputs(1, 2, 9, 16)
    query, key = query.abs() + 1, key.abs() + 1  # so that inf gives no NaN score
    key[0, 1, 5] = bad
    output, *_ = path.forward(query, key, value, 3, 1.)
    assert output[0, 0].isfinite().all()
    assert output[0, 1].isnan().all()


def test_views_of_a_fused_projection(path):
    """What an encoder layer passes: strided, and gradients that are too."""
    query, key, value, upstream = exact_inputs(2, 2, 20, 16)
    fused = torch.stack((query, key, value)).permute(1, 3, 0, 2, 4).contiguous()
    views = fused.permute(2, 0, 3, 1, 4)
    strided_upstream = upstream.transpose(1, 2).contiguous().transpose(1, 2)
    for ours, theirs in zip(
            computed_by(path, *views, strided_upstream, 5),
            computed_by(path, query, key, value, upstream, 5)):
        assert torch.equal(ours, theirs)


@DTYPES
@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
def test_strides_make_no_difference(path, dtype, layouts):
    inputs = exact_inputs(2, 2, 20, 16, dtype)
    assert_equal_up_to_rounding(
        computed_by(path, *laid_out(inputs, layouts), 5), expected(*inputs, 5))


@DTYPES
def test_expanded_inputs_and_gradients(path, dtype):
    """One query for all heads, one key for all samples, one gradient."""
    query, key, value, upstream = exact_inputs(2, 2, 20, 16, dtype)
    inputs = [query[:, :1].expand_as(query), key[:1].expand_as(key), value,
              upstream[:1, :1, :1, :1].expand_as(upstream)]
    assert_equal_up_to_rounding(
        computed_by(path, *inputs, 5),
        expected(*(tensor.contiguous() for tensor in inputs), 5))


@DTYPES
def test_statistics_are_what_the_contract_says(path, dtype):
    """Another path can therefore read them."""
    query, key, value, upstream = exact_inputs(1, 2, 20, 16, dtype)
    output, *statistics = path.forward(query, key, value, 5, 0.25)
    assert_statistics(query, key, 5, 0.25, *statistics)
    gradients = blockwise.backward(upstream, query, key, value, *statistics, 0.25)
    assert_equal_up_to_rounding(
        (output, *gradients), expected(query, key, value, upstream, 5))
