"""Mixing and unmixing: Eq. 1-4 of the MixedAE paper as pure tensor functions.

Symbols, as in the paper (Sec. 3.1): ``B`` clean images of ``H x W`` pixels are
cut into ``L`` patches of ``P x P`` pixels and into consecutive groups of ``n = 1 / r``
images, ``r`` being the mixing ratio. A mixing mask ``M`` in ``{0..n-1}^L``
names, for every position, the source image whose patch is shown there.

``S`` is the number of mixed samples: ``B / n`` in *compose* mode (one mask per
group), ``B`` in *full* mode (``n`` masks per group). The masks of one group are
consecutive; all masks are int64. Nothing here loops over groups or waits for the
device.
"""
from typing import Optional, Sequence, Tuple

import torch
from torch import Tensor

from .utils.checks import check_number
from .utils.errors import ConfigurationError

MODES = ('compose', 'full')


def num_sources_of(mix_ratio: float) -> int:
    """Images in a group, ``n = 1 / r`` (Sec. 3.1), for a ratio in (0, 0.5].

    Raises:
        ConfigurationError: For another ratio, or if ``1 / r`` is not an integer.
    """
    check_number('mix_ratio', mix_ratio, lambda ratio: 0 < ratio <= 0.5,
                 'be a number in (0, 0.5]')
    num_sources = round(1 / mix_ratio)
    if abs(1 / mix_ratio - num_sources) > 1e-6 * num_sources:
        raise ConfigurationError(
            f'mix_ratio is {mix_ratio}, so a group would hold '
            f'{1 / mix_ratio:.4g} images; 1 / mix_ratio must be an integer '
            '(0.5, 1/3, 0.25, 0.2, ...).')
    return num_sources


def draw_mix_masks(num_masks: int,
                   num_patches: int,
                   num_sources: int,
                   device: Optional[torch.device] = None,
                   generator: Optional[torch.Generator] = None) -> Tensor:
    """Draw symmetric random mixing masks (Eq. 2).

    Every source gets ``L / n`` positions, uniformly at random. Where ``n``
    does not divide ``L`` the shares differ by at most one patch, and which
    sources get the extra ones is random as well. The generator is one of the same
    device, by default the global one.

    Returns:
        Tensor: ``(S, L)`` int64, values in ``[0, n)``.

    Raises:
        ConfigurationError: If there are fewer patches than sources.
    """
    if num_patches < num_sources:
        raise ConfigurationError(
            f'{num_sources} images cannot be mixed into {num_patches} '
            'patches: every image needs at least one (larger images, smaller '
            'patches, or a larger mix_ratio).')
    noise = torch.rand(
        num_masks, num_patches, device=device, generator=generator)
    rank = noise.argsort(dim=1)  # a uniform permutation of 0..L-1 in each row
    if num_patches % num_sources:
        # Without this shift the first L % n sources would always get the
        # extra patch.
        shift = torch.rand(num_masks, 1, device=device, generator=generator)
        rank = rank + (shift * num_sources).long()
    return rank % num_sources


def patch_grid(image_size: Sequence[int], patch_size: int) -> Tuple[int, int]:
    """Rows and columns ``(H / P, W / P)`` of the patches of an image ``(H, W)``.

    Raises:
        ConfigurationError: If a side is not a multiple of the patch size.
    """
    height, width = image_size
    if (min(height, width) < patch_size or height % patch_size
            or width % patch_size):
        raise ConfigurationError(
            f'An image of {height} x {width} pixels (height x width) cannot '
            f'be cut into patches of {patch_size}: both sides must be '
            'multiples of the patch size.')
    return height // patch_size, width // patch_size


def check_batch(num_images: int, num_sources: int) -> None:
    """Refuse a batch that cannot be cut into whole groups.

    Raises:
        ConfigurationError: If ``B`` is 0 or not a multiple of ``n``.
    """
    if num_images == 0 or num_images % num_sources:
        raise ConfigurationError(
            f'A batch of {num_images} images cannot be cut into groups of '
            f'{num_sources} (= 1 / mix_ratio): the batch size of each process '
            f'must be a multiple of {num_sources}; set drop_last=True in the '
            'training dataloader if the last batch is smaller.')


def mix_images(clean: Tensor, mix_masks: Tensor, num_sources: int,
               patch_size: int) -> Tensor:
    """Mix each group of images by its masks (Eq. 1).

    Position ``l`` of a mixed image shows patch ``l`` of source ``M_l``.
    Shapes: ``(B, C, H, W)`` of any dtype, ``(S, L)`` int64 -> ``(S, C, H, W)``.

    Raises:
        ConfigurationError: If ``B`` is 0 or not a multiple of ``n``, or an image side
            is not one of ``P``.
    """
    check_batch(len(clean), num_sources)
    rows, columns = patch_grid(clean.shape[-2:], patch_size)
    groups = clean.unflatten(0, (-1, num_sources))  # (G, n, C, H, W)
    masks = mix_masks.view(len(groups), -1, 1, rows, columns)
    # For each pixel, which of the n images to read: (G, S / G, C, H, W).
    masks = masks.repeat_interleave(patch_size, dim=3)
    masks = masks.repeat_interleave(patch_size, dim=4)
    masks = masks.expand(-1, -1, clean.size(1), -1, -1)
    return groups.gather(1, masks).flatten(0, 1)  # (S, C, H, W)


def is_shown(mix_masks: Tensor, num_sources: int) -> Tensor:
    """One-hot masks, True once per position.

    Shapes: ``(..., L)`` int64 -> ``(..., L, n)`` bool.
    """
    sources = torch.arange(num_sources, device=mix_masks.device)
    return mix_masks[..., None] == sources


def vectors_of_sources(vectors: Tensor, mix_masks: Tensor) -> Tensor:
    """Give each position the vector of the source that is shown there.

    The values are those of ``vectors[mix_masks]``, whose gradient would add
    ``S * L`` rows into ``n`` by atomics. The gradient of a product with the
    one-hot masks is a product as well. The dtype stays, under autocast too.
    Shapes: ``(n, C)``, ``(S, L)`` int64 -> ``(S, L, C)``.
    """
    with torch.autocast(vectors.device.type, enabled=False):
        return is_shown(mix_masks, len(vectors)).to(vectors.dtype) @ vectors


def unmix_tokens(tokens: Tensor, mix_masks: Tensor, num_sources: int,
                 mask_token: Tensor) -> Tensor:
    """Recover one sequence per source from each mixed sample: unmixing, Eq. 3.

    Source ``i`` keeps the patch token at ``l`` where ``M_l = i`` and holds the
    ``[MASK]`` token elsewhere.
    Shapes: ``(S, L, C)``, ``(S, L)`` int64, ``[MASK]`` ``(C,)`` -> ``(S, n, L, C)``.
    """
    is_own = is_shown(mix_masks, num_sources).mT  # (S, n, L)
    return torch.where(is_own[..., None], tokens[:, None],
                       mask_token.to(tokens.dtype))


def hidden_sources(mix_masks: Tensor, num_sources: int) -> Tensor:
    """For each position the sources whose patch is *not* shown there, ascending.

    These are the ``n - 1`` pairs ``(l, i)`` with ``M_l != i`` over which
    Eq. 4 sums. Their number does not depend on the mask, so the loss can be
    taken on exactly these without a data-dependent shape.
    Shapes: ``(..., L)`` int64 -> ``(..., L, n - 1)`` int64.
    """
    others = torch.arange(num_sources - 1, device=mix_masks.device)
    return others + (others >= mix_masks[..., None]).long()


def gather_hidden(sequences: Tensor, mix_masks: Tensor) -> Tensor:
    """Pick the entries at the hidden positions of every source.

    They are in the order of :func:`hidden_sources`.
    Shapes: ``(..., n, L, C)``, ``(..., L)`` int64 -> ``(..., L, n - 1, C)``.
    """
    sequences = sequences.transpose(-3, -2)  # (..., L, n, C)
    # The j-th hidden source is j, or j + 1 from the shown one on. Choosing
    # between the two is faster than gather, whose gradient adds atomically.
    hidden = hidden_sources(mix_masks, sequences.size(-2))
    is_before = hidden < mix_masks[..., None]  # (..., L, n - 1)
    return torch.where(is_before[..., None], sequences[..., :-1, :],
                       sequences[..., 1:, :])


def hidden_targets(patches: Tensor, mix_masks: Tensor,
                   num_sources: int) -> Tensor:
    """Patches that the decoder has to predict: the targets of Eq. 4.

    Mixed sample ``s`` belongs to group ``g = s // (S / G)``. At position
    ``l`` its targets are the patches ``l`` of the group's images
    ``g * n + i``, for every source ``i`` that is not shown there, in the order of
    :func:`hidden_sources`.
    Shapes: ``(B, L, D)`` of the ``B = G * n`` clean images, ``(S, L)`` int64 ->
    ``(S, L, n - 1, D)``.
    """
    groups = patches.unflatten(0, (-1, 1, num_sources))  # (G, 1, n, L, D)
    masks = mix_masks.unflatten(0, (len(groups), -1))  # (G, S / G, L)
    # All masks of a group read the same patches, without copies of them.
    groups = groups.expand(-1, masks.size(1), -1, -1, -1)
    return gather_hidden(groups, masks).flatten(0, 1)


def scatter_hidden(values: Tensor, mix_masks: Tensor,
                   shown: Tensor) -> Tensor:
    """Inverse of :func:`gather_hidden`; where ``M_l = i`` it takes ``shown``.

    Shapes: ``(S, L, n - 1, C)``, ``(S, L)`` int64, shown ``(S, n, L, C)`` ->
    ``(S, n, L, C)``.
    """
    hidden = hidden_sources(mix_masks, shown.size(1))
    index = hidden[..., None].expand(-1, -1, -1, shown.size(-1))
    filled = shown.transpose(1, 2).scatter(2, index, values.to(shown.dtype))
    return filled.transpose(1, 2)


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """Cut images ``(B, C, H, W)`` into flattened patches ``(B, L, P * P * C)``.

    In MAE's order: row, column, colour.

    Raises:
        ConfigurationError: If an image side is not a multiple of ``P``.
    """
    rows, columns = patch_grid(images.shape[-2:], patch_size)
    patches = images.reshape(
        len(images), -1, rows, patch_size, columns, patch_size)  # (B, C, h, P, w, P)
    return patches.permute(0, 2, 4, 3, 5, 1).reshape(
        len(images), rows * columns, -1)


def unpatchify(patches: Tensor, grid: Sequence[int], patch_size: int) -> Tensor:
    """Inverse of :func:`patchify`, for a grid of ``rows * columns = L`` patches.

    Shapes: ``(B, L, P * P * C)`` -> ``(B, C, H, W)``.
    """
    rows, columns = grid
    patches = patches.reshape(
        len(patches), rows, columns, patch_size, patch_size, -1)  # (B, h, w, P, P, C)
    return patches.permute(0, 5, 1, 3, 2, 4).reshape(
        len(patches), -1, rows * patch_size, columns * patch_size)


def patch_statistics(patches: Tensor) -> Tuple[Tensor, Tensor]:
    """Mean and standard deviation of each patch, MAE's pixel normalisation.

    The latter is ``sqrt(var + 1e-6)`` with the unbiased variance.
    Shapes: ``(..., P * P * C)``, at least two values -> ``(..., 1)`` twice.
    """
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return mean, (variance + 1e-6).sqrt()
