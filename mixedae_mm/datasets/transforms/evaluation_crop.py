"""The crop that models are evaluated on, as a step of a pipeline."""
from mmcv.transforms import BaseTransform
from mmengine.registry import TRANSFORMS

from ...utils.preprocessing import MARGIN, ImageSize, evaluation_crop, height_and_width


@TRANSFORMS.register_module()
class EvaluationCrop(BaseTransform):
    """Resize (bicubic, antialiased) and cut the centre out.

    The same crop as in ``mixedae_mm.load`` and in all tools that measure a model
    on whole images, see :func:`~mixedae_mm.utils.preprocessing.evaluation_crop`.

    **Required Keys:** img (torch.Tensor, uint8 or float32, (C, H, W))

    **Modified Keys:** img ((C, *size), of the same dtype), img_shape

    Args:
        size (int | Sequence[int]): Output size, one number or (H, W).
        margin (float): The tighter side is resized to so many times ``size``, at
            least 1. Defaults to 256 / 224.

    Raises:
        ConfigurationError: If ``size`` is neither a positive integer nor two; with the
            first image, if ``margin`` is below 1.
    """

    def __init__(self, size: ImageSize, margin: float = MARGIN):
        self.size = height_and_width(size)
        self.margin = margin

    def transform(self, results: dict) -> dict:
        results['img'] = evaluation_crop(results['img'], self.size, self.margin)
        results['img_shape'] = self.size
        return results

    def __repr__(self) -> str:
        return f'{type(self).__name__}(size={self.size}, margin={self.margin:.4g})'
