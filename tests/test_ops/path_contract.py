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


def assert_equals_the_reference(path, *inputs, topk):
    assert_equal_up_to_rounding(computed_by(path, *inputs, topk),
                                expected(*inputs, topk))


@DTYPES
@pytest.mark.parametrize('num_tokens, head_dim, topk', [
    (197, 64, 49), (50, 32, 12), (33, 80, 32), (41, 128, 1), (16, 24, 5), (2, 24, 1),
])
def test_equals_the_reference(path, dtype, num_tokens, head_dim, topk):
    assert_equals_the_reference(
        path, *exact_inputs(1, 2, num_tokens, head_dim, dtype), topk=topk)


def test_every_k(path):
    for topk in range(1, 10):
        assert_equals_the_reference(path, *exact_inputs(1, 1, 9, 16), topk=topk)


@pytest.mark.parametrize('num_different', [1, 7])
@pytest.mark.parametrize('topk', [1, 4, 7])
def test_ties_stay(path, num_different, topk):
    query, key, value, upstream = exact_inputs(1, 2, 21, 16)
    key = key[:, :, torch.arange(21) % num_different]
    assert_equals_the_reference(path, query, key, value, upstream, topk=topk)


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


@DTYPES
@pytest.mark.parametrize('layouts', LAYOUTS_OF_FOUR, ids='-'.join)
def test_strides_make_no_difference(path, dtype, layouts):
    inputs = laid_out(exact_inputs(2, 2, 20, 16, dtype), layouts)
    assert_equals_the_reference(path, *inputs, topk=5)


@DTYPES
def test_expanded_inputs_and_gradients(path, dtype):
    """One query for all heads, one key for all samples, one gradient."""
    query, key, value, upstream = exact_inputs(2, 2, 20, 16, dtype)
    assert_equals_the_reference(
        path, query[:, :1].expand_as(query), key[:1].expand_as(key), value,
        upstream[:1, :1, :1, :1].expand_as(upstream), topk=5)


@DTYPES
def test_statistics_are_what_the_contract_says(path, dtype):
    """Another path can therefore read them."""
    query, key, value, upstream = exact_inputs(1, 2, 20, 16, dtype)
    output, *statistics = path.forward(query, key, value, 5, 0.25)
    assert_statistics(query, key, 5, 0.25, *statistics)
    gradients = blockwise.backward(upstream, query, key, value, *statistics, 0.25)
    assert_equal_up_to_rounding(
        (output, *gradients), expected(query, key, value, upstream, 5))
