"""Feature maps of four strides from a ViT, whose own maps have one stride."""
import math
from typing import List, Sequence, Tuple

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule, ModuleList
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..utils.checks import check_count
from ..utils.errors import ConfigurationError

STRIDES = (4, 8, 16, 32)


@MODELS.register_module()
class ViTFeaturePyramid(BaseModule):
    """Strides 4, 8, 16 and 32 from four layers of a plain ViT.

    As BEiT and MAE feed UperNet, and iBOT an FPN: the map of the earliest
    layer is enlarged the most. For 16 x 16 patches, two transposed
    convolutions with a norm and GELU between them, one transposed
    convolution, nothing, and max pooling. The maps of a patch size that is not one
    of the strides, such as 14, are first interpolated (bilinear) to the nearest
    stride, so that heads see the usual four. Sides of images should then be multiples
    of that stride: what is beyond the last whole cell has no place in the map.

    It is a neck on its own (mmseg), or the first of a list of necks before an
    FPN (mmdet).

    Args:
        in_channels (int): Width ``C`` of the ViT.
        patch_size (int): Stride of the ViT, from 4 to 32.
        norm_cfg (dict): Norm between two transposed convolutions. Defaults to
            batch norm over all processes; on several CPU processes use
            ``dict(type='BN')``.
        init_cfg (dict, optional): Initialisation; PyTorch's by default.

    Raises:
        ConfigurationError: For another patch size.
    """

    def __init__(self,
                 in_channels: int,
                 patch_size: int = 16,
                 norm_cfg: dict = dict(type='SyncBN', requires_grad=True),
                 init_cfg=None) -> None:
        super().__init__(init_cfg)
        check_count('patch_size of ViTFeaturePyramid', patch_size, STRIDES[0],
                    STRIDES[-1])
        self.in_channels = in_channels
        nearest = min(STRIDES, key=lambda s: abs(math.log2(s / patch_size)))
        self.patch_size, self.scale = patch_size, patch_size / nearest
        self.least_cells = math.ceil(STRIDES[-1] / patch_size)
        self.levels = ModuleList(
            _rescale(nearest, stride, in_channels, norm_cfg)
            for stride in STRIDES)

    def forward(self, features: Sequence[Tensor]) -> Tuple[Tensor, ...]:
        """Rescale four maps ``(B, C, H, W)`` of one size, in the order of the layers.

        Returns:
            tuple[Tensor]: Of strides 4, 8, 16, 32: ``(B, C, H * P / 4, W * P
            / 4)`` and so on, rounded down.

        Raises:
            ConfigurationError: For another number of maps, if one does not have
                ``C`` channels, or is smaller than a cell of the last stride.
        """
        if len(features) != len(STRIDES):
            raise ConfigurationError(
                f'ViTFeaturePyramid makes {len(STRIDES)} levels from as many '
                f'maps, but got {len(features)}; set out_indices of the '
                f'backbone to {len(STRIDES)} layers, such as (3, 5, 7, 11).')
        for feature in features:
            if feature.ndim != 4 or feature.size(1) != self.in_channels:
                raise ConfigurationError(
                    f'ViTFeaturePyramid needs maps (B, {self.in_channels}, '
                    f'H, W), but got {tuple(feature.shape)}; the backbone '
                    "needs out_type='featmap', and its width is in_channels.")
            if min(feature.shape[2:]) < self.least_cells:
                height, width = (cells * self.patch_size for cells in feature.shape[2:])
                raise ConfigurationError(
                    f'An image of {width} x {height} pixels (width x height, whole '
                    'patches) is too small for ViTFeaturePyramid: its last map has one '
                    f'cell per {STRIDES[-1]} pixels, so each side must have at least '
                    f'{self.least_cells * self.patch_size}.')
        if self.scale != 1:
            # By the exact scale, not by the size it gives: cell i stays at i strides.
            features = [F.interpolate(
                feature, scale_factor=self.scale, mode='bilinear',
                recompute_scale_factor=False) for feature in features]
        return tuple(
            level(feature) for level, feature in zip(self.levels, features))


def _rescale(source: int, target: int, channels: int, norm_cfg: dict) -> nn.Module:
    """Layers that take a map from one stride to another, both powers of 2."""
    if target >= source:
        factor = target // source
        return nn.MaxPool2d(factor) if factor > 1 else nn.Identity()
    steps: List[nn.Module] = []
    for _ in range(int(math.log2(source // target))):
        if steps:
            steps += [build_norm_layer(norm_cfg, channels)[1], nn.GELU()]
        steps.append(nn.ConvTranspose2d(channels, channels, 2, stride=2))
    return nn.Sequential(*steps)
