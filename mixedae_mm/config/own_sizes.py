"""Configs of ``own_labels/`` for encoders and images of other sizes."""
from mmengine.config import Config

from ..models.vit_sizes import ARCHES
from ..utils.errors import ConfigurationError
from .tree import walk
from .values import DATALOADERS

WIDTH = 768  # of ViT-B, which these configs inherit
# Where a recipe has the size of images, or a multiple of it.
SIZE_KEYS = ('scale', 'scales', 'size', 'crop_size', 'stride')
LEAST_PIXELS = 8


def take_architecture(cfg: Config, config: dict) -> None:
    """Give a config of ViT-B the encoder of another config.

    Nothing changes for checkpoints that do not say it, such as converted ones.
    """
    theirs = config.get('model', {}).get('backbone')
    if not isinstance(theirs, dict):
        return
    own = cfg.model.backbone
    old_patch, arch = own.get('patch_size', 16), theirs.get('arch')
    patch = theirs.get('patch_size', 16)
    sizes = ARCHES.get(arch.lower()) if isinstance(arch, str) else arch
    # Other networks have other names of sizes; that they do not fit is said in loading.
    if not isinstance(patch, int) or not isinstance(sizes, dict) or not {
            'embed_dims', 'num_layers'} <= sizes.keys():
        return
    width, depth = sizes['embed_dims'], sizes['num_layers']
    own.arch, own.patch_size = arch, patch
    if isinstance(own.get('out_indices'), (list, tuple)):  # at the same depths of 12
        own.out_indices = tuple(-(-(i + 1) * depth // 12) - 1 for i in own.out_indices)
    changed = [('in_channels', WIDTH, width), ('patch_size', old_patch, patch),
               ('channels', WIDTH, width),  # of UperNet, as wide as the encoder
               ('in_channels', [WIDTH] * 4, [width] * 4),
               ('size_divisor', old_patch, patch)]
    for _, node in walk(dict(model=cfg.model)):
        for key, old, new in changed:
            if isinstance(node, dict) and node.get(key) == old:
                node[key] = new


def resize(cfg: Config, wanted: int, recipe: int) -> None:
    """Replace the size of images in a recipe, wherever it or a part of it stands.

    Resizing, crops, windows and their strides keep their proportions. The grid of
    positions changes if the recipe's is that of the crop. Numbers below
    ``LEAST_PIXELS``, such as the factors of a random affine map, stay.
    """
    backbone = cfg.model.backbone
    patch = backbone.get('patch_size', 16)
    cropped = backbone.img_size == recipe
    if wanted == recipe and isinstance(wanted, int):
        return
    if not isinstance(wanted, int) or wanted < 2 * patch or (
            cropped and wanted % patch):
        raise ConfigurationError(
            f'image_size in {cfg.filename} is {wanted!r}, but must be a number of '
            f'pixels, {2 * patch} or more'
            + (f', that is a multiple of the patch size, {patch}.' if cropped else '.'))

    def resized(value):
        if isinstance(value, (list, tuple)):
            return type(value)(resized(one) for one in value)
        is_pixels = isinstance(value, (int, float)) and value >= LEAST_PIXELS
        return round(value * wanted / recipe) if is_pixels else value

    if cropped:
        backbone.img_size = wanted
    parts = [cfg[name].dataset.pipeline for name in DATALOADERS]
    parts += [cfg.get('tta_pipeline'), cfg.model.get('data_preprocessor'),
              cfg.model.get('test_cfg')]
    for _, node in list(walk(parts)):
        for key in SIZE_KEYS if isinstance(node, dict) else ():
            if node.get(key):
                node[key] = resized(node[key])
