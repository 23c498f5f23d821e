"""What a converted checkpoint consists of, in each format."""
from typing import Callable, Dict, NamedTuple

from torch import Tensor

from ..models.checkpoint_names import HF_PREFIX, entries
from ..utils.errors import ConfigurationError
from .configurations import hf_configs, timm_configs
from .vit import Vit


class Format(NamedTuple):
    """How a ViT is written."""
    title: str  # what it is called in messages
    library: str  # the package that loads it
    column: str  # its names in models/checkpoint_names.py
    snippet: str  # Python that loads the written folder {path}
    has_decoder: bool = True  # whether there is a place for MAE's
    is_folder: bool = False  # whether it is always a folder, never one file
    file: str = 'model.safetensors'  # the weights in a folder
    # Contents of JSON files by name.
    configs: Callable[[Vit], Dict[str, dict]] = lambda vit: {}


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
    """Refuse, with a ConfigurationError, what a format cannot express."""
    sizes, title, column = vit.description, target.title, target.column
    token_norm = 'backbone.ln1.weight' in vit.weights
    mean_norm = 'backbone.ln2.weight' in vit.weights
    on_mean = sizes.pooling == 'mean'
    height, width = sizes.img_size
    for is_refused, sentence in (
        (sizes.relative_position_bias,
         'This ViT has a relative position bias in every layer, for which '
         f'{title} has no place; init_cfg and mixedae_mm.load take the file as it is.'),
        (sizes.layer_scale and title not in ('timm', 'mm'),
         f'This ViT has layer scale, for which a plain ViT of {title} has no place; '
         'use --to timm or --to mm.'),
        (title == 'hf-mae' and not sizes.decoder,
         'ViTMAEForPreTraining needs a decoder, which this checkpoint does not have; '
         'use --to hf.'),
        (title == 'hf-mae' and height != width,
         'ViTMAEForPreTraining knows square images only, but this ViT is for '
         f'{height} x {width} pixels.'),
        (title == 'hf-mae' and sizes.num_classes,
         'ViTMAEForPreTraining has no classifier; use --to hf or --encoder-only.'),
        (column == 'hf' and (mean_norm or not token_norm),
         'Hugging Face normalises every token, but this ViT was fine-tuned with a '
         'LayerNorm on the mean of its tokens; timm (--to timm) can hold it.'),
        (column == 'hf' and sizes.num_classes and on_mean,
         'ViTForImageClassification reads the CLS token, but this classifier reads the '
         'mean of the patch tokens; timm (--to timm) can hold it.'),
        (column == 'timm' and token_norm == mean_norm,
         'timm has a LayerNorm on the tokens or on their mean, but this ViT has '
         f'{"both" if token_norm else "neither"}.'),
        (column == 'mm' and sizes.num_classes and on_mean != mean_norm,
         "mmpretrain's classifiers normalise the mean of the tokens and not CLS, which "
         'is not what this classifier does; --encoder-only leaves it out.'),
    ):
        if is_refused:
            raise ConfigurationError(sentence)


_HF_SNIPPET = (
    'from transformers import AutoImageProcessor, {model}\n\n'
    "model = {model}.from_pretrained('{path}'{extra})\n"
    "processor = AutoImageProcessor.from_pretrained('{path}')")

FORMATS = {one.title: one for one in (
    Format(
        title='timm', library='timm', column='timm', has_decoder=False,
        configs=timm_configs,
        snippet='import timm\n\n'
        "model = timm.create_model('local-dir:{path}', pretrained=True)"),
    Format(
        title='hf', library='transformers', column='hf', has_decoder=False,
        is_folder=True, configs=hf_configs, snippet=_HF_SNIPPET),
    Format(
        title='hf-mae', library='transformers', column='hf', is_folder=True,
        configs=hf_configs, snippet=_HF_SNIPPET),
    Format(
        title='mae', library='timm', column='timm', file='model.pth',
        snippet='import torch\n\n'
        "weights = torch.load('{path}/model.pth')['model']"),
    Format(
        title='mm', library='mmpretrain', column='mm', file='model.pth',
        snippet="init_cfg = dict(\n    type='Pretrained', prefix='backbone.',"
        "\n    checkpoint='{path}/model.pth')"),
)}
