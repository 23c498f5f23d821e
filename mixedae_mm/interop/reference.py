"""Run a checkpoint with the library that it belongs to.

A conversion is right if the library computes the same from the result as the
other library from the source. timm and Hugging Face run the tensors of the file,
without the table of names.
"""
from functools import partial
from typing import Any, Dict

import torch
from mmpretrain.models import MAEPretrainDecoder
from torch import Tensor

from ..models.checkpoint_names import below, canonical
from ..utils.errors import ConfigurationError
from .configurations import decoder_config, hf_config, timm_arguments
from .vit import PlainViT, Vit, load_part

# The decoder is given this share of the patches, as in MAE.
VISIBLE_SHARE = 0.25


@torch.no_grad()
def outputs(vit: Vit, images: Tensor) -> Dict[str, Tensor]:
    """What the library of a checkpoint computes from normalised ``(N, 3, H, W)``.

    Returns:
        dict[str, Tensor]: ``features``, all tokens ``(N, 1 + L, C)``, or
        their pooled mean where that is normalised instead; ``logits`` of a
        classifier; ``pixels`` that a decoder predicts from the first quarter
        of the patches. Float32.

    Raises:
        ImportError: If the library is not installed.
    """
    run = dict(mm=_mmpretrain, timm=_timm, hf=_hugging_face)[vit.source.column]
    results = run(vit, images.float())
    return {name: value.float() for name, value in results.items()}


def _mmpretrain(vit: Vit, images: Tensor) -> Dict[str, Tensor]:
    model = PlainViT(vit, vit.source.path)
    tokens = model(images)  # (N, 1 + L, C)
    results = dict(features=tokens)
    if 'backbone.ln2.weight' in vit.weights:
        results['features'] = model.pool(tokens)
    if vit.description.num_classes:
        results['logits'] = model.logits(tokens)
    if vit.description.decoder:
        decoder = MAEPretrainDecoder(**decoder_config(vit.description))
        decoder.eval()
        load_part(decoder, below(vit.weights, 'neck.'), vit.source.path)
        results['pixels'] = decoder(*_first_quarter(tokens))
    return results


def _timm(vit: Vit, images: Tensor) -> Dict[str, Tensor]:
    import timm
    source, num_classes = vit.source, vit.description.num_classes
    left_out = ('decoder', 'mask_token', *(() if num_classes else ('head.', )))
    model: Any  # timm's models have methods that torch.nn.Module lacks
    if 'architecture' in source.config:
        model = timm.create_model(
            source.config['architecture'],
            **{**(source.config.get('model_args') or {}), 'num_classes': num_classes})
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
    if num_classes:
        results['logits'] = model.forward_head(features)
    return results


def _hugging_face(vit: Vit, images: Tensor) -> Dict[str, Tensor]:
    import transformers
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    sizes = hf_config(vit.description)
    kind = sizes['architectures'][0]
    model_class = getattr(transformers, kind)
    config = model_class.config_class.from_dict({**sizes, **vit.source.config})
    # Its own spelling: transformers 4 does not know what transformers 5 writes.
    tensors = {canonical(name): value for name, value in vit.source.tensors.items()}
    model, loading = model_class.from_pretrained(
        None, config=config, state_dict=tensors, output_loading_info=True,
        **(dict(add_pooling_layer=False) if kind == 'ViTModel' else {}))
    if loading['missing_keys'] or loading['mismatched_keys']:
        raise ConfigurationError(
            f'{vit.source.path} does not hold a complete {kind}; it lacks '
            f'{sorted(loading["missing_keys"] or loading["mismatched_keys"])[0]}.')
    model = model.float().eval()
    encoder = model if kind == 'ViTModel' else model.vit
    if vit.description.decoder:
        model.config.mask_ratio = 0.0
        in_order = torch.linspace(
            0, 1, vit.weights['backbone.pos_embed'].shape[1] - 1)
        features = encoder(
            images, noise=in_order.expand(len(images), -1)).last_hidden_state
        return dict(
            features=features, pixels=model.decoder(*_first_quarter(features)).logits)
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
