"""The algorithm: the path of a batch through MixedAE."""
from typing import Any, Dict, List, Optional

from mmengine.registry import MODELS
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor

from ..utils.errors import ConfigurationError
from .mixedae_head import MixedAEPretrainHead
from .mixedae_vit import MixedAEViT
from .vit_arguments import check_init_cfg

# MAE's: xavier for linear layers. The parts refine it in their init_weights.
MAE_INIT = (
    dict(type='Xavier', layer='Linear', distribution='uniform'),
    dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
)


@MODELS.register_module()
class MixedAE(BaseSelfSupervisor):
    """Mixed Autoencoder (Chen et al., CVPR 2023).

    images -> preprocessor (mix, Eq. 1-2) -> backbone (encode, Eq. 6) -> neck
    (unmix and decode, Eq. 3) -> head (losses, Eq. 4, 7, 8).

    What the parts must agree on is given once: the mixing ratio in
    ``data_preprocessor``, the geometry in ``backbone``. It is filled in for the
    other parts here, and a part whose config has another value is refused.

    Args:
        backbone (dict): Config of ``MixedAEViT``.
        neck (dict, optional): Config of ``MixedAEDecoder``. None trains the
            contrastive loss alone (which the paper reports to fail).
        head (dict): Config of ``MixedAEPretrainHead``.
        data_preprocessor (dict, optional): Config of
            ``MixedAEDataPreprocessor``; its defaults are the paper's.
        init_cfg (dict | list[dict], optional): Defaults to MAE's.

    Raises:
        ConfigurationError: If two parts disagree, or there is no loss.
    """

    def __init__(self,
                 backbone: dict,
                 neck: Optional[dict],
                 head: dict,
                 data_preprocessor: Optional[dict] = None,
                 init_cfg=MAE_INIT) -> None:
        patch_size = backbone.get('patch_size', 16)
        channels = backbone.get('in_channels', 3)
        if data_preprocessor is None:
            data_preprocessor = {}
        preprocessor = _build(
            'data_preprocessor',
            {'type': 'MixedAEDataPreprocessor', **data_preprocessor},
            patch_size=patch_size)
        num_sources = preprocessor.num_sources
        encoder = _build('backbone', backbone, num_sources=num_sources)
        shared = dict(num_sources=num_sources, embed_dim=encoder.embed_dims,
                      patch_size=patch_size)
        grid = tuple(encoder.patch_resolution)
        decoder = None
        if neck is not None:
            decoder = _build('neck', neck, grid=grid, in_chans=channels, **shared)
        super().__init__(
            backbone=encoder,
            neck=decoder,
            head=_build('head', head, **shared),
            data_preprocessor=preprocessor,
            init_cfg=check_init_cfg(init_cfg))
        if decoder is None and isinstance(self.head, MixedAEPretrainHead):
            self._rely_on_contrast()
        # (channels, height, width) of images
        self.image_shape = (channels, *(side * patch_size for side in grid))

    def _rely_on_contrast(self) -> None:
        """Without a decoder, the contrastive loss is the only one."""
        if self.head.contrast_loss is None:
            raise ConfigurationError(
                'neck and head.contrast_loss are None, so that there is no loss '
                'to train with; keep one of them.')
        if (self.head.contrast_input == 'before_norm'
                and isinstance(self.backbone, MixedAEViT)):
            # No loss trains the last norm then, and DistributedDataParallel
            # would wait for its gradient.
            self.backbone.ln1.requires_grad_(False)

    def loss(self, inputs: Dict[str, Tensor], data_samples: List[DataSample],
             **kwargs) -> Dict[str, Tensor]:
        """Losses of a mixed batch.

        Args:
            inputs (dict[str, Tensor]): What :class:`MixedAEDataPreprocessor` makes:
                ``mixed`` ``(S, C, H, W)``, ``clean`` ``(B, C, H, W)``, ``mix_mask``
                ``(S, L)`` int64.
            data_samples (list[DataSample]): Not used: there are no labels.

        Returns:
            dict[str, Tensor]: ``loss_recon`` and ``loss_homocon``, scalars, those that
            are in use.

        Raises:
            ConfigurationError: If the images have another size than the model.
        """
        mix_mask = inputs['mix_mask']  # (S, L)
        given, built_for = tuple(inputs['clean'].shape[1:]), self.image_shape
        if given != built_for:
            raise ConfigurationError(
                f'The images are {given} (channels, height, width), but the model '
                f'is built for {built_for}; let the pipeline crop to that, or '
                'change img_size and in_channels of the backbone.')
        encoded = self.backbone(inputs['mixed'], mix_mask)  # (S, 1 + L, C) each
        predictions = None  # or (S, L, n - 1, P * P * C)
        if self.with_neck:
            predictions = self.neck(encoded.tokens, mix_mask)
        return self.head.loss(encoded, predictions, inputs['clean'], mix_mask)


def _build(name: str, config: dict, **shared) -> Any:
    """Build a part with what the rest of the model knows filled in, not replaced."""
    for key, value in shared.items():
        given = config.get(key, value)
        if _as_tuple(given) != _as_tuple(value):
            raise ConfigurationError(
                f'{name}.{key} is {given}, but the rest of the model says '
                f'{value}; leave it out, it is filled in.')
    return MODELS.build(config, default_args=shared)


def _as_tuple(value: Any) -> Any:
    """Configs have lists where Python code has tuples."""
    return tuple(value) if isinstance(value, list) else value
