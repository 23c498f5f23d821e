"""The algorithm: the path of a batch through MixedAE."""
from typing import Dict, List, Optional

from mmengine.registry import MODELS
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.structures import DataSample
from torch import Tensor

from ..utils.checks import check_part
from ..utils.errors import ConfigurationError
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

    What the parts must agree on is said once: the mixing ratio in
    ``data_preprocessor``, the geometry in ``backbone``. The rest is filled in
    here, and a part that says otherwise is refused.

    Args:
        backbone (dict): Config of ``MixedAEViT``.
        neck (dict, optional): Config of ``MixedAEDecoder``. None trains the
            contrastive loss alone (which the paper reports to fail).
        head (dict): Config of ``MixedAEPretrainHead``.
        data_preprocessor (dict, optional): Config of
            ``MixedAEDataPreprocessor``; its defaults are the paper's.
        init_cfg (dict | list[dict], optional): Defaults to MAE's.

    Raises:
        ConfigurationError: If a part cannot be built, two of them disagree, or
            there is no loss.
    """

    def __init__(self,
                 backbone: dict,
                 neck: Optional[dict],
                 head: dict,
                 data_preprocessor: Optional[dict] = None,
                 init_cfg=MAE_INIT) -> None:
        preprocessor = _with_type(
            data_preprocessor, 'MixedAEDataPreprocessor')
        parts = dict(data_preprocessor=preprocessor, backbone=backbone, head=head)
        if neck is not None:
            parts.update(neck=neck)
        elif isinstance(head, dict) and head.get('contrast_loss', '') is None:
            raise ConfigurationError(
                'neck and head.contrast_loss are None, so that there is no loss '
                'to train with; keep one of them.')
        for name, part in parts.items():
            check_part(name, part, MODELS)
        preprocessor = MODELS.build(
            _fill(
                preprocessor,
                'data_preprocessor',
                patch_size=backbone.get('patch_size', 16)))
        encoder = MODELS.build(
            _fill(
                backbone, 'backbone', num_sources=preprocessor.num_sources))
        shared = dict(
            num_sources=preprocessor.num_sources,
            embed_dim=encoder.embed_dims,
            patch_size=preprocessor.patch_size)
        if neck is not None:
            neck = _fill(
                neck,
                'neck',
                grid=encoder.patch_resolution,
                in_chans=backbone.get('in_channels', 3),
                **shared)
        super().__init__(
            backbone=encoder,
            neck=neck,
            head=_fill(head, 'head', **shared),
            data_preprocessor=preprocessor,
            init_cfg=check_init_cfg(init_cfg))
        # (channels, height, width) of images
        self.image_shape = (backbone.get('in_channels', 3), *(
            side * preprocessor.patch_size for side in encoder.patch_resolution))

    def loss(self, inputs: Dict[str, Tensor], data_samples: List[DataSample],
             **kwargs) -> Dict[str, Tensor]:
        """Losses of a batch that the preprocessor mixed.

        Args:
            inputs (dict[str, Tensor]): ``mixed``, ``clean``, ``mix_mask`` as
                :class:`MixedAEDataPreprocessor` makes them.
            data_samples (list[DataSample]): Not used: no labels.

        Returns:
            dict[str, Tensor]: ``loss_recon`` and ``loss_homocon``.

        Raises:
            ConfigurationError: If the images have another size than the model.
        """
        mix_mask = inputs['mix_mask']
        given, built_for = tuple(inputs['clean'].shape[1:]), self.image_shape
        if given != built_for:
            raise ConfigurationError(
                f'The images are {given} (channels, height, width), but the model '
                f'is built for {built_for}; let the pipeline crop to that, or '
                'change img_size and in_channels of the backbone.')
        encoded = self.backbone(inputs['mixed'], mix_mask)
        predictions = None
        if self.with_neck:
            predictions = self.neck(encoded.tokens, mix_mask)
        return self.head.loss(encoded, predictions, inputs['clean'], mix_mask)


def _with_type(part: Optional[dict], default: str):
    """A part's config, of the default type unless it names one."""
    if part is None:
        part = {}
    return dict(dict(type=default), **part) if isinstance(part, dict) else part


def _fill(part: dict, name: str, **values) -> dict:
    """Copy a part's config with shared values; refuse what contradicts."""
    part = dict(part)
    for key, value in values.items():
        given = part.setdefault(key, value)
        if given != value:
            raise ConfigurationError(
                f'{name}.{key} is {given}, but the rest of the model says '
                f'{value}; leave it out, it is filled in.')
    return part
