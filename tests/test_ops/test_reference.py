"""The reference against Eq. 6 written as loops, and TopK's properties."""
import equations
import pytest
import torch
from attention_cases import exact_inputs
from hypothesis import given
from hypothesis import strategies as st

from mixedae_mm.ops import topk_mask
from mixedae_mm.ops.reference import homologous_attention_reference


@pytest.mark.parametrize('topk', [1, 3, 8, 9])
def test_equals_the_equation(topk):
    query, key, value, _ = torch.randn(4, 2, 3, 9, 5, dtype=torch.float64)
    output = homologous_attention_reference(query, key, value, topk, 5**-0.5)
    for one in torch.cartesian_prod(torch.arange(2), torch.arange(3)).unbind():
        one = tuple(one)  # sample and head
        torch.testing.assert_close(output[one], equations.homologous_attention(
            query[one], key[one], value[one], topk))


def test_gradients_are_those_of_the_kept_scores():
    inputs = torch.randn(3, 1, 2, 6, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        lambda qkv: homologous_attention_reference(*qkv, 3, 0.5), inputs)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype):
    half = exact_inputs(1, 2, 20, 32, dtype)[:3]
    with torch.autocast('cpu', torch.bfloat16):
        output = homologous_attention_reference(*half, 5, 0.25)
    expected = homologous_attention_reference(*(t.float() for t in half), 5, 0.25)
    assert torch.equal(output, expected.to(dtype))  # of one dtype too


small_integers = st.integers(-3, 3).map(float)  # so that ties are common


@given(st.data())
def test_mask_keeps_the_largest_and_their_ties(data):
    row = data.draw(st.lists(small_integers, min_size=1, max_size=12))
    topk = data.draw(st.integers(1, len(row)))
    smallest_kept = sorted(row, reverse=True)[topk - 1]
    assert topk_mask(torch.tensor([row]), topk).tolist() == [
        [score >= smallest_kept for score in row]]


def test_mask_never_drops_nan():
    nan = float('nan')
    scores = torch.tensor([[nan, 3., 1., 2.], [nan, nan, nan, 0.]])
    assert topk_mask(scores, 2)[scores.isnan()].all()
