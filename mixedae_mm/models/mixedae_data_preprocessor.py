"""The data preprocessor: normalise, group, draw masks, mix on the device."""
from math import inf, isfinite
from typing import Any, Optional, Sequence

import torch
from mmengine.registry import MODELS
from mmpretrain.models import SelfSupDataPreprocessor
from torch import Tensor

from ..mixing import (MODES, check_batch, draw_mix_masks, mix_images,
                      num_sources_of, patch_grid)
from ..utils.checks import check_choice, check_count, check_number
from ..utils.errors import ConfigurationError
from ..utils.preprocessing import warn_of_range

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@MODELS.register_module()
class MixedAEDataPreprocessor(SelfSupDataPreprocessor):
    """Mix batches of clean images (Eq. 1-2).

    Args:
        mix_ratio (float): ``r`` in (0, 0.5] with an integer ``n = 1 / r``.
        mode (str): ``'compose'``, one mixed sample per group of ``n`` images
            (default), or ``'full'``, ``n`` with independent masks.
        patch_size (int): ``P``.
        mean (Sequence[float]): Of each channel, or one for all, in the units that
            the pipeline loads; of 8-bit images in 0..255.
        std (Sequence[float]): Likewise, above 0.
        bgr_to_rgb (bool): For pipelines that load BGR (``mmcv``'s own).
            Ours load RGB.
        non_blocking (bool): Copy to the device asynchronously, which needs
            ``pin_memory`` in the dataloader.

    Raises:
        ConfigurationError: If ``mix_ratio``, ``mode``, ``mean`` or ``std`` is another
            value than these, or ``patch_size`` below 1.
    """

    def __init__(self,
                 mix_ratio: float = 0.25,
                 mode: str = 'compose',
                 patch_size: int = 16,
                 mean: Sequence[float] = IMAGENET_MEAN,
                 std: Sequence[float] = IMAGENET_STD,
                 bgr_to_rgb: bool = False,
                 non_blocking: bool = True) -> None:
        for value in mean:
            check_number('a number of mean', value, isfinite, 'be finite')
        for value in std:
            check_number('a number of std', value, lambda number: 0 < number < inf,
                         'be finite and above 0')
        if len(mean) != len(std) and 1 not in (len(mean), len(std)):
            raise ConfigurationError(
                f'mean has {len(mean)} numbers and std {len(std)}, but both must have '
                'one per channel, or one for all.')
        # mmengine allows one or three channels only; any number is set below.
        super().__init__(
            mean=mean[:1],
            std=std[:1],
            bgr_to_rgb=bgr_to_rgb,
            non_blocking=non_blocking)
        for name, values in (('mean', mean), ('std', std)):
            numbers = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, numbers, persistent=False)
        self._values_checked = False
        self.mix_ratio = mix_ratio
        self.num_sources = num_sources_of(mix_ratio)
        check_choice('mode', mode, MODES)
        check_count('patch_size', patch_size, 1)
        self.mode = mode
        self.patch_size = patch_size

    def num_samples(self, num_images: int) -> int:
        """``S``, mixed samples made from ``B`` clean images."""
        if self.mode == 'full':
            return num_images
        return num_images // self.num_sources

    def forward(self, data: dict, training: bool = False) -> dict:
        """Normalise a batch and, in training, mix it.

        Args:
            data (dict): ``inputs``: images ``(B, C, H, W)`` (uint8 or float,
                in the units of ``mean``), or a list of ``B`` images of one
                size; optional ``data_samples``; optional ``mix_mask``
                ``(S, L)`` int64 to replay a batch.
            training (bool): Whether to mix.

        Returns:
            dict: ``data_samples`` and ``inputs``; in training the latter is
            ``dict(mixed=(S, C, H, W), clean=(B, C, H, W), mix_mask=(S, L)
            int64)`` with ``S = B * r`` (compose) or ``B`` (full, samples of a
            group consecutive), otherwise the normalised ``(B, C, H, W)``.

        Raises:
            ConfigurationError: If the images have several sizes, or other channels
                than ``mean`` and ``std``, ``B`` is not a multiple of ``n``, an image
                side is not one of ``P``, or a given mask does not fit.
        """
        inputs = self._as_batch(data['inputs'])
        if training:  # first, so that a bad batch costs no work on the device
            check_batch(len(inputs), self.num_sources)
            patch_grid(inputs.shape[-2:], self.patch_size)
        out = super().forward(
            dict(inputs=inputs, data_samples=data.get('data_samples')),
            training)
        if training:
            out['inputs'] = self.mix(out['inputs'], data.get('mix_mask'))
        return out

    def _as_batch(self, inputs: Any) -> Tensor:
        """One checked tensor ``(B, C, H, W)`` of what the pipeline loaded."""
        if isinstance(inputs, (list, tuple)):
            sizes = {tuple(image.shape) for image in inputs}
            if len(sizes) > 1:
                raise ConfigurationError(
                    f'The images of a batch have several sizes, {sorted(sizes)}; '
                    'let the pipeline resize or crop them to one.')
            inputs = torch.stack(list(inputs))  # (B, C, H, W)
        if inputs.ndim != 4:
            raise ConfigurationError(
                f'inputs have shape {tuple(inputs.shape)}, but must be a batch '
                'of images, (B, C, H, W).')
        num_numbers = max(len(self.mean), len(self.std))
        if num_numbers not in (1, inputs.size(1)):
            raise ConfigurationError(
                f'The images have {inputs.size(1)} channels, but mean and std '
                f'have {num_numbers} numbers.')
        if self._channel_conversion and inputs.size(1) != 3:
            raise ConfigurationError(
                f'bgr_to_rgb is True, but the images have {inputs.size(1)} channels.')
        if not self._values_checked and inputs.dtype != torch.uint8:
            self._values_checked = True
            warn_of_range(inputs, self.mean, self.std)
        return inputs

    def mix(self,
            clean: Tensor,
            mix_mask: Optional[Tensor] = None,
            generator: Optional[torch.Generator] = None) -> dict:
        """Mix normalised images ``(B, C, H, W)``.

        Masks ``(S, L)`` int64 are drawn from the generator, unless they are given.

        Returns:
            dict: ``mixed``, ``clean`` and ``mix_mask``, see :meth:`forward`.

        Raises:
            ConfigurationError: If ``B`` is not a multiple of ``n``, an image side not
                one of ``P``, or a mask not ``(S, L)`` int64 with values in ``[0, n)``.
        """
        rows, columns = patch_grid(clean.shape[-2:], self.patch_size)
        shape = (self.num_samples(len(clean)), rows * columns)
        if mix_mask is None:
            mix_mask = draw_mix_masks(
                *shape, self.num_sources, clean.device, generator)  # (S, L)
        elif tuple(mix_mask.shape) != shape:
            raise ConfigurationError(
                f'mix_mask has shape {tuple(mix_mask.shape)}, but {len(clean)}'
                f' images in mode {self.mode} need {shape}.')
        elif mix_mask.dtype != torch.int64 or not self._names_sources(mix_mask):
            raise ConfigurationError(
                'mix_mask must be int64 and name sources of a group, 0 to '
                f'{self.num_sources - 1}.')
        mix_mask = mix_mask.to(clean.device, non_blocking=True)
        mixed = mix_images(
            clean, mix_mask, self.num_sources, self.patch_size)  # (S, C, H, W)
        return dict(mixed=mixed, clean=clean, mix_mask=mix_mask)

    def _names_sources(self, mix_mask: Tensor) -> bool:
        """Whether all values are sources; always True on a GPU.

        Reading the values there would make the host wait for the device, and the
        kernel of ``gather`` asserts the same.
        """
        return mix_mask.device.type != 'cpu' or bool(
            ((mix_mask >= 0) & (mix_mask < self.num_sources)).all())
