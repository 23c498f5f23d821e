"""What a converted checkpoint consists of, in each format."""
from typing import Callable, Dict, NamedTuple

from torch import Tensor

from ..models.checkpoint_names import HF_PREFIX, entries
from ..utils.errors import ConfigurationError
from .configurations import hf_configs, timm_configs
from .vit import Vit


class Format(NamedTuple):
    """How a ViT is written.

    Attributes:
        title (str): What it is called in messages.
        library (str): The package that loads it.
        column (str): Its names in :mod:`~mixedae_mm.models.checkpoint_names`.
        has_decoder (bool): Whether there is a place for MAE's decoder.
        is_folder (bool): Whether it is always a folder, never one file.
        configs (callable): :class:`Vit` to contents of JSON files by name.
        snippet (str): Python that loads the written folder ``{path}``.
    """
    title: str
    library: str
    column: str
    has_decoder: bool
    is_folder: bool
    configs: Callable[[Vit], Dict[str, dict]]
    snippet: str


def rename(vit: Vit, target: Format) -> Dict[str, Tensor]:
    """Weights by the names of a format, which :func:`check` allows."""
    tensors: Dict[str, Tensor] = {}
    for entry in entries(vit.weights, 'mm'):
        if entry.mm not in vit.weights:
            continue
        names, value = entry.names(target.column), vit.weights[entry.mm]
        parts = value.chunk(len(names)) if len(names) > 1 else (value, )
        tensors.update(zip(names, parts))
    if target.column == 'hf' and (vit.description.decoder
                                  or vit.description.num_classes):
        tensors = {
            name if name.startswith(('decoder.', 'classifier.')) else
            HF_PREFIX + name: value
            for name, value in tensors.items()
        }
    if target.column == 'mm' and vit.description.pooling == 'cls':
        # VisionTransformerClsHead, mmpretrain's classifier on CLS
        tensors = {
            name.replace('head.fc.', 'head.layers.head.'): value
            for name, value in tensors.items()
        }
    return {name: value.contiguous() for name, value in tensors.items()}


def check(vit: Vit, target: Format) -> None:
    """Refuse what a format cannot express.

    Raises:
        ConfigurationError: One sentence that says what and why.
    """
    sizes = vit.description
    token_norm = 'backbone.ln1.weight' in vit.weights
    mean_norm = 'backbone.ln2.weight' in vit.weights
    if sizes.relative_position_bias:
        raise ConfigurationError(
            f'This ViT has a relative position bias in every layer, for which '
            f'{target.title} has no place; init_cfg and mixedae_mm.load take the '
            'file as it is.')
    if sizes.layer_scale and target.title not in ('timm', 'mm'):
        raise ConfigurationError(
            'This ViT has layer scale, for which a plain ViT of '
            f'{target.title} has no place; use --to timm or --to mm.')
    if target.title == 'hf-mae':
        if not sizes.decoder:
            raise ConfigurationError(
                'ViTMAEForPreTraining needs a decoder, which this checkpoint '
                'does not have; use --to hf.')
        if sizes.img_size[0] != sizes.img_size[1]:
            raise ConfigurationError(
                'ViTMAEForPreTraining knows square images only, but this ViT '
                f'is for {sizes.img_size[0]} x {sizes.img_size[1]} pixels.')
        if sizes.num_classes:
            raise ConfigurationError(
                'ViTMAEForPreTraining has no classifier; use --to hf or '
                '--encoder-only.')
    if target.column == 'hf':
        if mean_norm or not token_norm:
            raise ConfigurationError(
                'Hugging Face normalises every token, but this ViT was '
                'fine-tuned with a LayerNorm on the mean of its tokens; timm '
                '(--to timm) can hold it.')
        if sizes.num_classes and sizes.pooling != 'cls':
            raise ConfigurationError(
                'ViTForImageClassification reads the CLS token, but this '
                'classifier reads the mean of the patch tokens; timm (--to '
                'timm) can hold it.')
    if target.column == 'timm' and (token_norm == mean_norm):
        raise ConfigurationError(
            'timm has a LayerNorm on the tokens or on their mean, but this '
            f'ViT has {"both" if token_norm else "neither"}.')
    if target.column == 'mm' and sizes.num_classes and (
            (sizes.pooling == 'mean') != mean_norm):
        raise ConfigurationError(
            "mmpretrain's classifiers normalise the mean of the tokens and "
            'not CLS, which is not what this classifier does; --encoder-only '
            'leaves it out.')


_HF_SNIPPET = (
    'from transformers import AutoImageProcessor, {model}\n\n'
    "model = {model}.from_pretrained('{path}'{extra})\n"
    "processor = AutoImageProcessor.from_pretrained('{path}')")

FORMATS = {
    'timm': Format(
        'timm', 'timm', 'timm', has_decoder=False, is_folder=False,
        configs=timm_configs,
        snippet='import timm\n\n'
        "model = timm.create_model('local-dir:{path}', pretrained=True)"),
    'hf': Format(
        'hf', 'transformers', 'hf', has_decoder=False, is_folder=True,
        configs=hf_configs, snippet=_HF_SNIPPET),
    'hf-mae': Format(
        'hf-mae', 'transformers', 'hf', has_decoder=True, is_folder=True,
        configs=hf_configs, snippet=_HF_SNIPPET),
    'mae': Format(
        'mae', 'timm', 'timm', has_decoder=True, is_folder=False,
        configs=lambda vit: {},
        snippet='import torch\n\n'
        "weights = torch.load('{path}/model.pth')['model']"),
    'mm': Format(
        'mm', 'mmpretrain', 'mm', has_decoder=True, is_folder=False,
        configs=lambda vit: {},
        snippet="init_cfg = dict(\n    type='Pretrained', prefix='backbone.',"
        "\n    checkpoint='{path}/model.pth')"),
}
