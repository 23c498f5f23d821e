"""The data preprocessor: normalise, group, draw masks, mix on the device."""
from math import inf
from typing import Any, Callable, Optional, Sequence

import torch
from mmengine.registry import MODELS
from mmpretrain.models import SelfSupDataPreprocessor

from ..utils.checks import check_choice, check_count, check_flag, check_number
from ..utils.errors import ConfigurationError
from ..mixing import (MODES, check_batch, draw_mix_masks, mix_images,
                      num_sources_of, patch_grid)

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


@MODELS.register_module()
class MixedAEDataPreprocessor(SelfSupDataPreprocessor):
    """Mix batches of clean images (Eq. 1-2).

    Args:
        mix_ratio (float): ``r`` in (0, 0.5] with an integer ``n = 1 / r``.
        mode (str): ``'compose'``, one mixed sample a group of ``n`` images
            (default), or ``'full'``, ``n`` with independent masks.
        patch_size (int): ``P``.
        mean (Sequence[float]): Of the three colour channels, or one for all,
            in 0..255.
        std (Sequence[float]): Likewise, above 0.
        bgr_to_rgb (bool): For pipelines that load BGR (``mmcv``'s own).
            Ours load RGB.
        non_blocking (bool): Copy to the device asynchronously, which takes
            ``pin_memory`` in the dataloader.

    Raises:
        ConfigurationError: For a value that an argument does not allow.
    """

    def __init__(self,
                 mix_ratio: float = 0.25,
                 mode: str = 'compose',
                 patch_size: int = 16,
                 mean: Sequence[float] = IMAGENET_MEAN,
                 std: Sequence[float] = IMAGENET_STD,
                 bgr_to_rgb: bool = False,
                 non_blocking: bool = True) -> None:
        _check_channels('mean', mean, lambda value: -inf < value < inf, 'finite')
        _check_channels('std', std, lambda value: 0 < value < inf, 'above 0')
        check_flag('bgr_to_rgb', bgr_to_rgb)
        check_flag('non_blocking', non_blocking)
        super().__init__(
            mean=mean,
            std=std,
            bgr_to_rgb=bgr_to_rgb,
            non_blocking=non_blocking)
        self.num_sources = num_sources_of(mix_ratio)
        check_choice('mode', mode, MODES)
        check_count('patch_size', patch_size)
        self.mix_ratio = mix_ratio
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
            data (dict): ``inputs``: images ``(B, C, H, W)`` (uint8 or float
                in 0..255), or a list of ``B`` images of one size; optional
                ``data_samples``; optional ``mix_mask`` ``(S, L)`` int64 to
                use instead of drawing one, to replay a batch.
            training (bool): Whether to mix.

        Returns:
            dict: ``data_samples`` and ``inputs``; in training the latter is
            ``dict(mixed=(S, C, H, W), clean=(B, C, H, W), mix_mask=(S, L)
            int64)`` with ``S = B * r`` (compose) or ``B`` (full, samples of a
            group consecutive), otherwise the normalised ``(B, C, H, W)``.

        Raises:
            ConfigurationError: If the images have several sizes, ``B`` is no
                multiple of ``n``, an image side none of ``P``, or a given mask
                does not fit.
        """
        inputs = data['inputs']
        if isinstance(inputs, (list, tuple)):
            sizes = {tuple(image.shape) for image in inputs}
            if len(sizes) > 1:
                raise ConfigurationError(
                    f'The images of a batch have several sizes, {sorted(sizes)}; '
                    'let the pipeline resize or crop them to one.')
            inputs = torch.stack(list(inputs))
        if inputs.ndim != 4:
            raise ConfigurationError(
                f'inputs have shape {tuple(inputs.shape)}, but must be a batch '
                'of images, (B, C, H, W).')
        if self._enable_normalize and len(self.mean) not in (1, inputs.size(1)):
            raise ConfigurationError(
                f'The images have {inputs.size(1)} channels, but mean and std '
                f'{len(self.mean)} numbers.')
        if training:  # before any work, so that the message comes first
            check_batch(len(inputs), self.num_sources)
            patch_grid(inputs.shape[-2:], self.patch_size)
        out = super().forward(
            dict(inputs=inputs, data_samples=data.get('data_samples')),
            training)
        if training:
            out['inputs'] = self.mix(out['inputs'], data.get('mix_mask'))
        return out

    def mix(self,
            clean: torch.Tensor,
            mix_mask: Optional[torch.Tensor] = None,
            generator: Optional[torch.Generator] = None) -> dict:
        """Draw masks, unless given, and mix normalised images.

        Args:
            clean (Tensor): ``(B, C, H, W)``.
            mix_mask (Tensor, optional): ``(S, L)`` int64.
            generator (torch.Generator, optional): To draw the masks from.

        Returns:
            dict: ``mixed``, ``clean`` and ``mix_mask``, see :meth:`forward`.
        """
        rows, columns = patch_grid(clean.shape[-2:], self.patch_size)
        shape = (self.num_samples(len(clean)), rows * columns)
        if mix_mask is None:
            mix_mask = draw_mix_masks(
                *shape, self.num_sources, clean.device, generator)
        elif tuple(mix_mask.shape) != shape:
            raise ConfigurationError(
                f'mix_mask has shape {tuple(mix_mask.shape)}, but {len(clean)}'
                f' images in mode {self.mode} need {shape}.')
        elif (mix_mask.dtype != torch.int64 or mix_mask.min() < 0
              or mix_mask.max() >= self.num_sources):
            raise ConfigurationError(
                'mix_mask must be int64 and name sources of a group, 0 to '
                f'{self.num_sources - 1}.')
        mixed = mix_images(clean, mix_mask.to(clean.device), self.num_sources,
                           self.patch_size)
        return dict(
            mixed=mixed, clean=clean, mix_mask=mix_mask.to(clean.device))


def _check_channels(name: str, values: Any, is_allowed: Callable[[float], bool],
                    allowed: str) -> None:
    if not isinstance(values, (list, tuple)) or len(values) not in (1, 3):
        raise ConfigurationError(
            f'{name} is {values!r}, but must be three numbers, one a colour '
            'channel, or one for all.')
    for value in values:
        check_number(f'a number of {name}', value, is_allowed, f'be {allowed}')
