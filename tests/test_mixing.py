"""Eq. 1-4's index algebra, against the equations written as loops."""
import pytest
import torch
from equations import cut, mix_image, norm_pixels, unmix
from hypothesis import given, settings
from hypothesis import strategies as st

from mixedae_mm.mixing import (check_batch, draw_mix_masks, gather_hidden,
                               hidden_sources, hidden_targets, is_shown,
                               mix_images, num_sources_of, patch_grid,
                               patch_statistics, patchify, scatter_hidden,
                               unmix_tokens, unpatchify, vectors_of_sources)
from mixedae_mm.utils.errors import ConfigurationError


@st.composite
def drawn_masks(draw):
    """Masks and their number of sources."""
    n = draw(st.integers(2, 7))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = draw(st.integers(1, 5)), n + draw(st.integers(0, 40))
    masks = draw_mix_masks(*shape, n, generator=generator)
    assert masks.shape == shape
    return masks, n


@settings(max_examples=60)
@given(drawn_masks())
def test_masks_are_symmetric(drawn):
    """Eq. 2: equal shares, within one patch where n does not divide L."""
    masks, n = drawn
    assert masks.dtype == torch.int64
    for mask in masks:
        counts = torch.bincount(mask, minlength=n)
        assert len(counts) == n and counts.sum() == len(mask)
        assert counts.min() == len(mask) // n and counts.max() == -(-len(mask) // n)


@pytest.mark.parametrize('num_patches', [8, 10])
def test_every_source_is_equally_likely_everywhere(num_patches):
    """Positions are uniform and, for n not dividing L, so is the remainder."""
    n, draws = 4, 20000
    masks = draw_mix_masks(draws, num_patches, n)
    frequency = torch.stack([(masks == i).double().mean(0) for i in range(n)])
    # Standard error is sqrt(.25 * .75 / 20000) = .003; five of them.
    assert (frequency - 1 / n).abs().max() < .0155


def test_masks_follow_the_generator_only():
    state = torch.get_rng_state()
    first, second, third = (
        draw_mix_masks(3, 16, 4, generator=torch.Generator().manual_seed(seed))
        for seed in (7, 7, 8))
    assert torch.equal(first, second) and not torch.equal(first, third)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize('dtype', [torch.float64, torch.uint8], ids=str)
@pytest.mark.parametrize('n, per_group', [
    (2, 1), (3, 1), (4, 1), (2, 2), (3, 3), (4, 4)])
def test_mixing_is_equation_1(n, per_group, dtype):
    groups, patch = 2, 4
    clean = torch.rand(groups * n, 3, 12, 8).mul(255).to(dtype)
    masks = draw_mix_masks(groups * per_group, 6, n)
    mixed = mix_images(clean, masks, n, patch)
    for s, mask in enumerate(masks):
        group = clean[s // per_group * n:][:n]
        assert torch.equal(mixed[s], mix_image(group, mask, patch))


@settings(max_examples=60)
@given(drawn_masks())
def test_shown_and_hidden(drawn):
    """Eq. 3 keeps the shown source, Eq. 4 takes all others, in ascending order."""
    masks, n = drawn
    sequences = torch.randn(len(masks), n, masks.size(1), 3)
    tokens, mask_token = torch.randn_like(sequences[:, 0]), torch.randn(3)
    shown, hidden = is_shown(masks, n), hidden_sources(masks, n)
    values = gather_hidden(sequences, masks)
    unmixed = unmix_tokens(tokens, masks, n, mask_token)
    for s, mask in enumerate(masks):
        for i in range(n):
            assert torch.equal(unmixed[s, i], unmix(tokens[s], mask, i, mask_token))
        for position, source in enumerate(mask.tolist()):
            others = [i for i in range(n) if i != source]
            assert shown[s, position].nonzero().tolist() == [[source]]
            assert hidden[s, position].tolist() == others
            assert torch.equal(values[s, position], sequences[s, others, position])
    # scatter_hidden inverts gather_hidden and leaves the shown positions alone.
    assert torch.equal(scatter_hidden(values, masks, sequences), sequences)
    blank = scatter_hidden(values, masks, torch.zeros_like(sequences))
    assert torch.equal(blank.any(-1), ~shown.mT)


@pytest.mark.parametrize('n, per_group', [(2, 1), (3, 1), (4, 1), (2, 2), (3, 3)])
def test_hidden_targets_are_those_of_equation_4(n, per_group):
    masks = draw_mix_masks(2 * per_group, 7, n)
    patches = torch.randn(2 * n, 7, 5)
    targets = hidden_targets(patches, masks, n)
    assert targets.shape == (len(masks), 7, n - 1, 5)
    for s, mask in enumerate(masks.tolist()):
        group = patches[s // per_group * n:][:n]
        for position, shown in enumerate(mask):
            others = [group[i, position] for i in range(n) if i != shown]
            assert torch.equal(targets[s, position], torch.stack(others))


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('autocast', [False, True])
def test_vectors_of_sources_are_those_of_indexing(dtype, autocast):
    """Value and gradient, the latter up to the order of the sum."""
    masks = draw_mix_masks(3, 17, 4)
    ours = torch.randn(4, 5, dtype=dtype, requires_grad=True)
    theirs = ours.detach().clone().requires_grad_()
    upstream = torch.randn(*masks.shape, 5, dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        values, expected = vectors_of_sources(ours, masks), theirs[masks]
    assert torch.equal(values, expected)  # of one dtype too
    values.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(
        ours.grad, theirs.grad, rtol=0, atol=100 * torch.finfo(dtype).eps)


@pytest.mark.parametrize('size', [(8, 8), (12, 8), (4, 16)])
def test_patches_are_the_images(size):
    images = torch.rand(3, 2, *size, dtype=torch.float64)
    patches = patchify(images, 4)
    for image, row in zip(images, patches):
        assert torch.equal(row, cut(image, 4))
        mean, std = patch_statistics(row)
        torch.testing.assert_close((row - mean) / std, norm_pixels(row))
    assert torch.equal(unpatchify(patches, patch_grid(size, 4), 4), images)


@pytest.mark.parametrize('ratio, expected', [(.5, 2), (1 / 3, 3), (.25, 4),
                                             (.2, 5), (1 / 7, 7), (.1, 10)])
def test_number_of_sources(ratio, expected):
    assert num_sources_of(ratio) == expected


MASKS = torch.zeros(1, 4).long()


@pytest.mark.parametrize('function, arguments, message', [
    *[(num_sources_of, (ratio, ), str(ratio))
      for ratio in (0, -.25, .51, 1, .3, .4, float('nan'), True, None, '0.25')],
    (draw_mix_masks, (1, 3, 4), '4 images.*3 patches'),
    (mix_images, (torch.rand(6, 3, 8, 8), MASKS, 4, 4), 'batch of 6 .*multiple of 4'),
    (check_batch, (0, 4), 'batch of 0'),
    (mix_images, (torch.rand(4, 3, 10, 8), MASKS, 4, 4), '10 x 8 pixels.*of 4'),
    (patch_grid, ((0, 8), 4), '0 x 8'),
    (patch_grid, ((8, 0), 4), '8 x 0'),
])
def test_what_is_refused(function, arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        function(*arguments)
