"""Run a checkpoint with the library that it belongs to.

A conversion is right if the library computes the same from the result as the
other library from the source. These functions go from files to features
without the table of names.
"""
from functools import partial
from typing import Any, Dict

import torch
from mmpretrain.models import MAEPretrainDecoder, VisionTransformer
from torch import Tensor

from ..models.checkpoint_names import HF_PREFIX, WITHOUT_PLACE, canonical
from ..utils.errors import ConfigurationError
from .configurations import decoder_config, hf_config, timm_arguments
from .reading import Source
from .vit import Vit, backbone_config, load_part

# The decoder is given this share of the patches, as in MAE.
VISIBLE_SHARE = 0.25


@torch.no_grad()
def outputs(source: Source, vit: Vit, images: Tensor) -> Dict[str, Tensor]:
    """What the library of a checkpoint computes from images.

    Args:
        source (Source): Its tensors, by its own names.
        vit (Vit): Its sizes.
        images (Tensor): ``(N, 3, H, W)``, normalised.

    Returns:
        dict[str, Tensor]: ``features``, all tokens ``(N, 1 + L, C)``, or
        their pooled mean where that is normalised instead; ``logits`` of a
        classifier; ``pixels`` that a decoder predicts from the first quarter
        of the patches. Float32.

    Raises:
        ImportError: If the library is not installed.
    """
    run = dict(mm=_mmpretrain, timm=_timm, hf=_hugging_face)[source.column]
    results = run(source, vit, images.float())
    return {name: value.float() for name, value in results.items()}


def _mmpretrain(source: Source, vit: Vit, images: Tensor) -> Dict[str, Tensor]:
    config = backbone_config(vit)
    if 'backbone.ln2.weight' in vit.weights:
        config['out_type'] = 'avg_featmap'
    backbone = VisionTransformer(**config)
    backbone.eval()  # returns None in mmpretrain
    tensors = source.tensors
    bare = 'cls_token' in tensors
    load_part(backbone, {
        name[0 if bare else len('backbone.'):]: value.float()
        for name, value in tensors.items()
        if (bare or name.startswith('backbone.')) and 'segment_embed' not in name
    }, source.path)
    features, = backbone(images)
    results = dict(features=features)
    if vit.description.num_classes:
        head = {
            name.rpartition('.')[2]: value.float()
            for name, value in tensors.items()
            if name.startswith('head.') and 'projector' not in name
        }
        if features.ndim == 3:
            features = (
                features[:, 0] if vit.description.pooling == 'cls' else
                features[:, 1:].mean(1))
        results['logits'] = torch.nn.functional.linear(features, **head)
    if vit.description.decoder:
        decoder = MAEPretrainDecoder(**decoder_config(vit.description))
        decoder.eval()
        load_part(decoder, {
            name[len('neck.'):]: value.float()
            for name, value in tensors.items() if name.startswith('neck.')
        }, source.path)
        visible, restore = _first_quarter(results['features'])
        results['pixels'] = decoder(visible, restore)
    return results


def _timm(source: Source, vit: Vit, images: Tensor) -> Dict[str, Tensor]:
    import timm
    left_out = ('decoder', 'mask_token', *(
        () if vit.description.num_classes else ('head.', )))
    model: Any  # timm's models have methods that torch.nn.Module lacks
    if 'architecture' in source.config:
        model = timm.create_model(
            source.config['architecture'], num_classes=vit.description.num_classes,
            **(source.config.get('model_args') or {}))
    else:
        model = timm.models.VisionTransformer(
            norm_layer=partial(torch.nn.LayerNorm, eps=vit.description.norm_eps),
            **timm_arguments(vit))
    load_part(model, {
        name: value for name, value in source.tensors.items()
        if not name.startswith(left_out)
    }, source.path)
    model = model.float().eval()
    features = model.forward_features(images)
    results = dict(features=features)
    if 'backbone.ln2.weight' in vit.weights:
        results['features'] = model.forward_head(features, pre_logits=True)
    if vit.description.num_classes:
        results['logits'] = model.forward_head(features)
    return results


def _hugging_face(source: Source, vit: Vit,
                  images: Tensor) -> Dict[str, Tensor]:
    import transformers
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sizes = hf_config(vit.description)
    kind = sizes['architectures'][0]
    model_class = getattr(transformers, kind)
    config = model_class.config_class.from_dict({**sizes, **source.config})
    # Its own spelling: transformers 4 does not know what transformers 5 writes.
    tensors = {
        canonical(name): value for name, value in source.tensors.items()
        if not name.removeprefix(HF_PREFIX).startswith(WITHOUT_PLACE)
    }
    model, loading = model_class.from_pretrained(
        None, config=config, state_dict=tensors, output_loading_info=True,
        **(dict(add_pooling_layer=False) if kind == 'ViTModel' else {}))
    if loading['missing_keys'] or loading['mismatched_keys']:
        raise ConfigurationError(
            f'{source.path} does not hold a complete {kind}; it lacks '
            f'{sorted(loading["missing_keys"] or loading["mismatched_keys"])[0]}.')
    model = model.float().eval()
    encoder = model if kind == 'ViTModel' else model.vit
    if vit.description.decoder:
        model.config.mask_ratio = 0.0
        in_order = torch.linspace(
            0, 1, vit.weights['backbone.pos_embed'].shape[1] - 1)
        features = encoder(
            images, noise=in_order.expand(len(images), -1)).last_hidden_state
        visible, restore = _first_quarter(features)
        return dict(
            features=features, pixels=model.decoder(visible, restore).logits)
    results = dict(features=encoder(images).last_hidden_state)
    if vit.description.num_classes:
        results['logits'] = model(images).logits
    return results


def _first_quarter(tokens: Tensor):
    """Tokens of CLS and the first patches, and MAE's order of all patches."""
    num_patches = tokens.shape[1] - 1
    visible = max(1, int(num_patches * VISIBLE_SHARE))
    restore = torch.arange(num_patches).expand(len(tokens), -1)
    return tokens[:, :1 + visible], restore
