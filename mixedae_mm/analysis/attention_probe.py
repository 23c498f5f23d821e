"""Look at the attention of a Vision Transformer from outside.

Works on every backbone built like mmpretrain's ``VisionTransformer``:
``MixedAEViT``, ``MAEViT``, ``VisionTransformer`` itself. Hooks are on it only while it
is looked at; a model that is not probed pays nothing.
"""
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Callable, Optional, Sequence, Tuple

import torch
from mmengine.model import BaseModule
from mmpretrain.models import MAEViT
from torch import Tensor, nn

from ..models import MixedAEViT
from ..ops import topk_mask
from ..utils.errors import ConfigurationError
from ..utils.undisturbed import outputs_of
from .loading import part_of_vit

@contextmanager
def attention_probe(backbone: BaseModule,
                    on_attention: Callable[[int, Tensor, Tensor, float], None],
                    layers: Optional[Sequence[int]] = None):
    """While open, report queries and keys of each layer, or of some, that runs.

    ``on_attention`` is called in the forward pass with the layer's index, ``query`` and
    ``key``, both ``(B, heads, N, D)`` float32 without gradient, and the factor of their
    scores.

    Raises:
        ConfigurationError: If the backbone does not have ``layers[i].attn.qkv``.
    """
    every = [part_of_vit(layer, 'attn') for layer in part_of_vit(backbone, 'layers')]

    def report(index: int, module: nn.Module, inputs: tuple, output: Tensor) -> None:
        query, key = _query_and_key(output, every[index].num_heads)
        on_attention(index, query, key, query.size(-1)**-0.5)

    with ExitStack() as hooks:
        for i in range(len(every)) if layers is None else layers:
            projection = part_of_vit(every[i], 'qkv')
            hooks.enter_context(projection.register_forward_hook(partial(report, i)))
        yield


def _query_and_key(projected: Tensor, heads: int) -> Tuple[Tensor, Tensor]:
    """From the output of ``qkv``: both ``(B, heads, N, D)`` float32."""
    query, key, _ = projected.detach().float().unflatten(
        -1, (3, heads, -1)).permute(2, 0, 3, 1, 4)
    return query, key


@torch.no_grad()
def topk_sampling_accuracy(backbone: BaseModule, mixed: Tensor, mix_mask: Tensor,
                           topk: Optional[int] = None) -> Tensor:
    """TopK sampling accuracy of every layer (Fig. 6).

    For a patch query, the share of its own source image among the patch keys
    that TopK keeps, averaged over queries, heads and samples. Chance is the
    mixing ratio. CLS takes part in TopK, as in Eq. 6, but is left out of the
    count on both sides. For a layer that attends globally, the result is for what TopK
    would pick.

    Args:
        backbone (BaseModule): A ViT in evaluation mode. ``MixedAEViT`` built
            for pre-training is told the mask; any other encodes the mixed
            samples like ordinary images.
        mixed (Tensor): ``(S, C, H, W)``, normalised mixed samples.
        mix_mask (Tensor): ``(S, L)`` int64, source of each patch.
        topk (int, optional): ``K``; by default the backbone's, or ``L / n``.

    Returns:
        Tensor: ``(num_layers,)`` float64 on the CPU, in [0, 1]. NaN where no
        patch key was kept at all (``K = 1`` and always CLS).

    Raises:
        ConfigurationError: If ``topk`` is not between 1 and ``L``, or the
            backbone's attention cannot be read.
    """
    num_patches = mix_mask.size(1)
    if topk is None:
        topk = (backbone.topk_of(num_patches)
                if isinstance(backbone, MixedAEViT) and backbone.k_ratio < 1
                else max(1, num_patches // (int(mix_mask.max()) + 1)))
    if not 1 <= topk <= num_patches:
        raise ConfigurationError(
            f'topk is {topk}, but must lie between 1 and the number of '
            f'patches, {num_patches}.')
    homologous = mix_mask[:, None, :, None] == mix_mask[:, None, None, :]
    accuracies = {}

    def measure(layer_index: int, query: Tensor, key: Tensor, scale: float) -> None:
        first = query.size(-2) - num_patches  # CLS comes before the patches
        with torch.autocast(query.device.type, enabled=False):
            scores = query[:, :, first:] @ key.mT * scale
        kept = topk_mask(scores, topk)[..., first:]  # (S, heads, L, L)
        num_kept = kept.sum(-1)
        share = (kept & homologous).sum(-1) / num_kept.double()
        accuracies[layer_index] = share[num_kept > 0].mean()

    with attention_probe(backbone, measure):
        if isinstance(backbone, MixedAEViT) and backbone.is_pretraining:
            backbone(mixed, mix_mask)
        else:
            encode_whole(backbone, mixed)
    return torch.stack([accuracies[i] for i in sorted(accuracies)]).cpu()


@torch.no_grad()
def cls_attention_maps(backbone: BaseModule, images: Tensor) -> Tensor:
    """Attention of the last layer's CLS query to the patches (Fig. 5).

    The ViT, in evaluation mode, sees normalised images ``(B, C, H, W)`` whole: no
    mixing, no masking. Maps are ``(B, rows, columns)`` float32, averaged over the
    heads; what is missing to a sum of 1 is CLS's attention to itself.

    Raises:
        ConfigurationError: If there is no CLS token, or the backbone's
            attention cannot be read.
    """
    first = getattr(backbone, 'num_extra_tokens', 0)
    if first < 1:
        raise ConfigurationError(
            f'This {type(backbone).__name__} has no CLS token, whose attention '
            'the maps show; build it with with_cls_token=True.')
    last = len(part_of_vit(backbone, 'layers')) - 1
    attention = part_of_vit(backbone.layers[last], 'attn')
    modules = dict(embedded=backbone.patch_embed, qkv=part_of_vit(attention, 'qkv'))
    if hasattr(attention, 'rel_pos_bias'):
        modules['bias'] = attention.rel_pos_bias
    with outputs_of(modules) as seen:
        encode_whole(backbone, images)

    query, key = _query_and_key(seen['qkv'], attention.num_heads)
    with torch.autocast(query.device.type, enabled=False):
        scores = query[:, :, :1] @ key.mT * key.size(-1)**-0.5  # (B, heads, 1, N)
    if 'bias' in seen:  # (heads, N, N)
        scores = scores + seen['bias'][:, :1].float()
    if isinstance(backbone, MixedAEViT) and backbone.homologous_in_transfer:
        topk = backbone.topk_of_layers(scores.size(-1) - first)[last]
        if topk is not None:  # None attends globally
            scores = scores.masked_fill(~topk_mask(scores, topk), -torch.inf)
    maps = scores.softmax(-1)[:, :, 0, first:].mean(1)
    _, grid = seen['embedded']
    return maps.unflatten(1, tuple(grid))


def encode_whole(backbone: BaseModule, images: Tensor) -> None:
    """Run a backbone on whole images."""
    if isinstance(backbone, MAEViT):
        backbone(images, mask=None)  # its default would hide 75 %
    else:
        backbone(images)
