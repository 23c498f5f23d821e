"""Eq. 1-3 and the index algebra, against the equations written as loops."""
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

SIZES = dict(
    num_masks=st.integers(1, 5),
    num_sources=st.integers(2, 7),
    extra_patches=st.integers(0, 40),
    seed=st.integers(0, 2**31))


def masks_of(num_masks, num_sources, extra_patches, seed):
    generator = torch.Generator().manual_seed(seed)
    return draw_mix_masks(
        num_masks,
        num_sources + extra_patches,
        num_sources,
        generator=generator)


@pytest.mark.parametrize('ratio, expected', [(.5, 2), (1 / 3, 3), (.25, 4),
                                             (.2, 5), (1 / 7, 7), (.1, 10)])
def test_number_of_sources(ratio, expected):
    assert num_sources_of(ratio) == expected


@pytest.mark.parametrize(
    'ratio', [0, -.25, .51, 1, .3, .4, float('nan'), True, None, '0.25'])
def test_bad_ratio_is_refused_with_its_value(ratio):
    with pytest.raises(ConfigurationError, match=str(ratio)):
        num_sources_of(ratio)


@settings(max_examples=60)
@given(**SIZES)
def test_masks_are_symmetric(num_masks, num_sources, extra_patches, seed):
    """Eq. 2: equal shares, within one patch where n does not divide L."""
    masks = masks_of(num_masks, num_sources, extra_patches, seed)
    num_patches = num_sources + extra_patches
    assert masks.shape == (num_masks, num_patches)
    assert masks.dtype == torch.int64
    for mask in masks:
        counts = torch.bincount(mask, minlength=num_sources)
        assert len(counts) == num_sources
        assert counts.sum() == num_patches
        assert counts.min() == num_patches // num_sources
        assert counts.max() == -(-num_patches // num_sources)


@pytest.mark.parametrize('num_patches', [8, 10])
def test_every_source_is_equally_likely_everywhere(num_patches):
    """Positions are uniform and, for n not dividing L, so is the remainder."""
    n, draws = 4, 20000
    masks = draw_mix_masks(
        draws, num_patches, n, generator=torch.Generator().manual_seed(0))
    frequency = torch.stack([(masks == i).double().mean(0) for i in range(n)])
    # Standard error is sqrt(.25 * .75 / 20000) = .003; five of them.
    assert (frequency - 1 / n).abs().max() < .0155


def test_masks_follow_the_generator_only():
    torch.manual_seed(0)
    first = masks_of(3, 4, 12, seed=7)
    state = torch.get_rng_state()
    assert torch.equal(first, masks_of(3, 4, 12, seed=7))
    assert not torch.equal(first, masks_of(3, 4, 12, seed=8))
    assert torch.equal(state, torch.get_rng_state())


def test_more_sources_than_patches_is_refused():
    with pytest.raises(ConfigurationError, match='4 images.*3 patches'):
        draw_mix_masks(1, 3, 4)


@pytest.mark.parametrize('masks_per_group', [1, 'full'])
@pytest.mark.parametrize('n', [2, 3, 4])
def test_mixing_is_equation_1(n, masks_per_group):
    per_group = n if masks_per_group == 'full' else 1
    groups, patch, size = 2, 4, (12, 8)
    clean = torch.rand(groups * n, 3, *size, dtype=torch.float64)
    masks = draw_mix_masks(groups * per_group, 6, n)
    mixed = mix_images(clean, masks, n, patch)
    assert mixed.dtype == clean.dtype
    for s, mask in enumerate(masks):
        group = s // per_group
        expected = mix_image(clean[group * n:(group + 1) * n], mask, patch)
        assert torch.equal(mixed[s], expected)


def test_mixing_keeps_uint8():
    clean = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    mixed = mix_images(clean, draw_mix_masks(1, 4, 4), 4, 4)
    assert mixed.dtype == torch.uint8


def test_renaming_the_sources_changes_nothing():
    """Permuting a group and renaming its mask gives the same mix."""
    clean = torch.rand(4, 3, 16, 16)
    masks = draw_mix_masks(1, 16, 4)
    order = torch.tensor([2, 0, 3, 1])
    renamed = torch.argsort(order)[masks]
    assert torch.equal(
        mix_images(clean, masks, 4, 4), mix_images(clean[order], renamed, 4,
                                                   4))


def test_bad_batches_and_images_are_refused():
    masks = draw_mix_masks(1, 4, 4)
    with pytest.raises(ConfigurationError, match='batch of 6 .*multiple of 4'):
        mix_images(torch.rand(6, 3, 8, 8), masks, 4, 4)
    with pytest.raises(ConfigurationError, match='batch of 0'):
        check_batch(0, 4)
    with pytest.raises(ConfigurationError, match='10 x 8 pixels.*of 4'):
        mix_images(torch.rand(4, 3, 10, 8), masks, 4, 4)
    with pytest.raises(ConfigurationError, match='0 x 8'):
        patch_grid((0, 8), 4)
    with pytest.raises(ConfigurationError, match='8 x 0'):
        patch_grid((8, 0), 4)


@settings(max_examples=40)
@given(**SIZES)
def test_unmixing_is_equation_3(num_masks, num_sources, extra_patches, seed):
    masks = masks_of(num_masks, num_sources, extra_patches, seed)
    tokens = torch.randn(*masks.shape, 5, dtype=torch.float64)
    mask_token = torch.randn(5, dtype=torch.float64)
    unmixed = unmix_tokens(tokens, masks, num_sources, mask_token)
    assert unmixed.shape == (num_masks, num_sources, masks.size(1), 5)
    for s in range(num_masks):
        for i in range(num_sources):
            assert torch.equal(unmixed[s, i],
                               unmix(tokens[s], masks[s], i, mask_token))


def test_unmixing_undoes_mixing_where_a_source_is_shown():
    clean = torch.rand(8, 3, 16, 16)
    masks = draw_mix_masks(2, 16, 4)
    mixed = patchify(mix_images(clean, masks, 4, 4), 4)
    unmixed = unmix_tokens(mixed, masks, 4, torch.zeros(48))
    own = unmixed.flatten(0, 1)
    expected = patchify(clean, 4)
    shown = own.abs().sum(-1) > 0
    assert shown.sum() == 2 * 16
    assert torch.equal(own[shown], expected[shown])


@settings(max_examples=40)
@given(**SIZES)
def test_hidden_sources_are_all_but_the_shown(num_masks, num_sources,
                                              extra_patches, seed):
    masks = masks_of(num_masks, num_sources, extra_patches, seed)
    hidden = hidden_sources(masks, num_sources)
    for mask, row in zip(masks, hidden):
        for shown, others in zip(mask.tolist(), row.tolist()):
            assert others == [i for i in range(num_sources) if i != shown]


@settings(max_examples=40)
@given(**SIZES)
def test_one_source_is_shown_at_each_position(num_masks, num_sources,
                                              extra_patches, seed):
    masks = masks_of(num_masks, num_sources, extra_patches, seed)
    shown = is_shown(masks, num_sources)
    assert shown.dtype == torch.bool and shown.shape == (*masks.shape, num_sources)
    for s, mask in enumerate(masks.tolist()):
        for position, source in enumerate(mask):
            assert shown[s, position].nonzero().tolist() == [[source]]


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize('autocast', [False, True])
def test_vectors_of_sources_are_those_of_indexing(dtype, autocast):
    """Value and gradient, the latter up to the order of the sum."""
    masks = masks_of(3, 4, 13, seed=1)
    ours, theirs = (torch.randn(4, 5, dtype=dtype, generator=torch.Generator(
        ).manual_seed(0)).requires_grad_() for _ in range(2))
    upstream = torch.randn(*masks.shape, 5, dtype=dtype)
    with torch.autocast('cpu', torch.bfloat16, enabled=autocast):
        values, expected = vectors_of_sources(ours, masks), theirs[masks]
    assert values.dtype == dtype and torch.equal(values, expected)
    values.backward(upstream)
    expected.backward(upstream)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=100 * eps)
    if dtype == torch.float64:
        assert torch.autograd.gradcheck(
            lambda vectors: vectors_of_sources(vectors, masks), ours)


@pytest.mark.parametrize('n, masks_per_group', [(2, 1), (3, 1), (4, 1), (2, 2), (3, 3)])
def test_hidden_targets_are_those_of_equation_4(n, masks_per_group):
    num_groups, num_patches = 2, 7
    masks = draw_mix_masks(num_groups * masks_per_group, num_patches, n)
    patches = torch.randn(num_groups * n, num_patches, 5)
    targets = hidden_targets(patches, masks, n)
    assert targets.shape == (len(masks), num_patches, n - 1, 5)
    for s, mask in enumerate(masks.tolist()):
        group = patches[s // masks_per_group * n:][:n]
        for position, shown in enumerate(mask):
            others = [group[i, position] for i in range(n) if i != shown]
            assert torch.equal(targets[s, position], torch.stack(others))


def test_patch_statistics_normalise_as_mae():
    patches = torch.rand(6, 48, dtype=torch.float64)
    mean, std = patch_statistics(patches)
    torch.testing.assert_close((patches - mean) / std, norm_pixels(patches))


@settings(max_examples=40)
@given(**SIZES)
def test_scatter_inverts_gather(num_masks, num_sources, extra_patches, seed):
    masks = masks_of(num_masks, num_sources, extra_patches, seed)
    sequences = torch.randn(num_masks, num_sources, masks.size(1), 3)
    values = gather_hidden(sequences, masks)
    for s, mask in enumerate(masks.tolist()):
        for position, shown in enumerate(mask):
            others = [i for i in range(num_sources) if i != shown]
            assert torch.equal(values[s, position],
                               sequences[s, others, position])
    assert torch.equal(scatter_hidden(values, masks, sequences), sequences)
    blank = scatter_hidden(values, masks, torch.zeros_like(sequences))
    kept = blank.abs().sum(-1) > 0
    own = masks[:, None] == torch.arange(num_sources)[:, None]
    assert torch.equal(kept, ~own)


@pytest.mark.parametrize('size', [(8, 8), (12, 8), (4, 16)])
def test_patches_are_the_images(size):
    images = torch.rand(3, 2, *size, dtype=torch.float64)
    patches = patchify(images, 4)
    for image, row in zip(images, patches):
        assert torch.equal(row, cut(image, 4))
    grid = patch_grid(size, 4)
    assert torch.equal(unpatchify(patches, grid, 4), images)
