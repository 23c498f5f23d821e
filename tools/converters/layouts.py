"""Checkpoints in the layouts that others publish, with random weights.

Names and shapes are those of the official files. Models are made by the libraries that
the files belong to: timm (whose ViT and BEiT have the names of Meta's and Microsoft's
code), Hugging Face, torchvision and mmpretrain.
"""
from argparse import Namespace
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

import mixedae_mm
from mixedae_mm.models.checkpoint_loading import LoadReport, load_pretrained
from mixedae_mm.models.layers.relative_position_bias import patch_offsets
from mixedae_mm.utils.optional import require

Weights = Dict[str, Tensor]
SOME = torch.ones(2)  # of a part that transfer does not use
INDEX = 'relative_position_index'
DINO_HEAD = {f'head.{name}': SOME for name in (
    'mlp.0.weight', 'mlp.0.bias', 'mlp.2.weight', 'mlp.2.bias', 'mlp.4.weight',
    'mlp.4.bias', 'last_layer.weight_g', 'last_layer.weight_v')}
MOCO_HEAD = {f'head.{name}': SOME for name in (
    '0.weight', '1.weight', '1.bias', '1.running_mean', '3.weight', '6.weight')}


def under(prefix: str, *parts: Weights) -> Weights:
    """The weights of all parts, with a prefix before their names."""
    return {prefix + name: value for part in parts for name, value in part.items()}


def dino(vit: Weights, other: Weights, teacher: str = 'backbone.') -> dict:
    """What DINO and iBOT save in training; the teacher is the result."""
    start = teacher[:-len('backbone.')]
    return dict(student=under('module.backbone.', other, dict(masked_embed=SOME)),
                teacher={**under(teacher, vit), **under(start, DINO_HEAD)},
                epoch=3, args=Namespace())


def with_beit_index(weights: Weights) -> dict:
    """With the index that unilm's code saves beside each table."""
    table = next(name for name in weights if name.endswith('bias_table'))
    side = (int((len(weights[table]) - 3)**.5) + 1) // 2
    return {**weights, **{
        name.replace('relative_position_bias_table', INDEX):
        patch_offsets((side, side)).entries
        for name in weights if name.endswith('bias_table')}}


def shaken(model: nn.Module, seed: int = 0, scale: float = .02) -> nn.Module:
    """Every parameter moved, also biases, norms and positions that begin equal."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn(parameter.shape, generator=generator))
    model.eval()  # which returns nothing for mmpretrain's ResNet
    return model


def timm_vit(sizes: dict, **options):
    """A ViT, and what computes its tokens ``(N, 1 + L, C)``."""
    models = require('timm', 'timm', 'The table').models
    vit = models.VisionTransformer(**sizes, **dict(dict(num_classes=0), **options))
    return vit, vit.forward_features


def timm_beit(sizes: dict, **options):
    """A BEiT, likewise."""
    models = require('timm', 'timm', 'The table').models
    beit = models.beit.Beit(
        **sizes, **dict(dict(num_classes=0, init_values=.1), **options))
    return beit, beit.forward_features


def hf_sizes(sizes: dict) -> dict:
    """Arguments of Hugging Face's ``ViTConfig`` for the same sizes."""
    return dict(
        hidden_size=sizes['embed_dim'], num_hidden_layers=sizes['depth'],
        num_attention_heads=sizes['num_heads'], image_size=sizes['img_size'],
        intermediate_size=4 * sizes['embed_dim'], patch_size=sizes['patch_size'])


def hf_vit(sizes: dict, layer_norm_eps: float = 1e-6):
    """Hugging Face's ViT, likewise; by default with timm's epsilon."""
    transformers = require('transformers', 'transformers', 'The table')
    vit = transformers.ViTModel(transformers.ViTConfig(
        **hf_sizes(sizes), layer_norm_eps=layer_norm_eps), add_pooling_layer=False)
    return vit, lambda images: vit(images).last_hidden_state


def resnet(sizes: dict):
    """torchvision's ResNet-50 without its classifier; its last map."""
    from torchvision.models import resnet50
    model = resnet50()
    del model.fc
    return model, nn.Sequential(*list(model.children())[:-1])


def mixmim(sizes: dict):
    """mmpretrain's MixMIM, small for a small width; its mean token."""
    model = MODELS.build(backbones(mixmim, sizes))
    return model, lambda images: model(images)[-1]


def backbones(source: Callable, sizes: dict, **options) -> dict:
    """Config of the backbone that a layout's files are loaded into."""
    if source is resnet:
        return dict(type='mmpretrain.ResNet', depth=50, norm_eval=False)
    if source is mixmim:
        small = dict(embed_dims=16, depths=[1, 1, 2, 1], num_heads=[1, 2, 4, 8])
        return dict(type='mmpretrain.MixMIMTransformer',
                    arch='base' if sizes['embed_dim'] >= 768 else small)
    return dict(
        type='MixedAEViT', img_size=sizes['img_size'], patch_size=sizes['patch_size'],
        out_type='raw', arch=dict(
            embed_dims=sizes['embed_dim'], num_layers=sizes['depth'],
            num_heads=sizes['num_heads'], feedforward_channels=4 * sizes['embed_dim']),
        **options)


class Layout(NamedTuple):
    """How a published file is made up."""
    # The weights of the model and those of another one, to what is saved.
    content: Callable[[Weights, Weights], Any]
    source: Callable = timm_vit  # what makes the model
    options: dict = {}  # of that function
    ours: dict = {}  # options of the backbone that loads it


LAYER_SCALE = dict(layer_scale_init_value=.1)
SHARED = dict(use_shared_rel_pos_bias=True, use_abs_pos_emb=False, use_fc_norm=False)
PER_LAYER = dict(use_rel_pos_bias=True, use_abs_pos_emb=False, num_classes=5)
LAYOUTS = {
    'timm': Layout(lambda vit, other: vit),
    'DeiT': Layout(lambda vit, other: dict(model=vit), options=dict(num_classes=5)),
    "Meta's MAE": Layout(lambda vit, other: dict(model=vit)),
    "Meta's MAE, fine-tuned": Layout(
        lambda vit, other: dict(model=vit, args=Namespace()),
        options=dict(global_pool='avg', fc_norm=True, num_classes=5),
        ours=dict(final_norm=False)),
    'DINO, backbone': Layout(lambda vit, other: vit),
    'DINO, whole': Layout(dino),
    'DINO, teacher wrapped': Layout(
        lambda vit, other: dino(vit, other, 'module.backbone.')),
    'iBOT, backbone': Layout(lambda vit, other: dict(state_dict=vit)),
    'iBOT, whole': Layout(lambda vit, other: dict(
        dino(vit, other), ibot_loss=dict(center=SOME))),
    'MoCo v3': Layout(lambda vit, other: dict(epoch=3, arch='vit_base', state_dict={
        **under('module.base_encoder.', vit, MOCO_HEAD),
        **under('module.momentum_encoder.', other, MOCO_HEAD),
        **under('module.predictor.', {'0.weight': SOME})})),
    'DINOv2': Layout(
        lambda vit, other: {**vit, 'mask_token': vit['cls_token'][0]},
        options=dict(init_values=.1), ours=LAYER_SCALE),
    'BEiT': Layout(
        lambda vit, other: dict(model={
            **with_beit_index(vit), 'mask_token': vit['cls_token'],
            'lm_head.weight': SOME, 'lm_head.bias': SOME}),
        timm_beit, SHARED, dict(LAYER_SCALE, relative_position_bias=True)),
    'BEiT, fine-tuned': Layout(
        lambda vit, other: dict(model=with_beit_index(vit)), timm_beit, PER_LAYER,
        dict(LAYER_SCALE, relative_position_bias=True, final_norm=False)),
    'BEiT, absolute positions': Layout(
        lambda vit, other: dict(model=vit), timm_beit,
        dict(use_fc_norm=False, init_values=None)),
    'Hugging Face ViTModel': Layout(lambda vit, other: vit, hf_vit),
    'MoCo v2': Layout(
        lambda weights, other: dict(arch='resnet50', state_dict={
            **under('module.encoder_q.', weights, {'fc.0.weight': SOME}),
            **under('module.encoder_k.', other, {'fc.0.weight': SOME}),
            'module.queue': SOME, 'module.queue_ptr': torch.ones(1).long()}),
        resnet),
    'SwAV': Layout(
        lambda weights, other: under('module.', weights, {
            'projection_head.0.weight': SOME, 'prototypes.weight': SOME}), resnet),
    "mmpretrain's SimCLR": Layout(
        lambda weights, other: dict(meta={}, state_dict={
            **under('backbone.', weights), 'neck.fc0.weight': SOME}), resnet),
    "mmpretrain's BYOL": Layout(
        lambda weights, other: dict(meta={}, state_dict={
            **under('backbone.', weights), **under('target_net.module.0.', other),
            'neck.layers.0.weight': SOME}), resnet),
    "mmpretrain's MixMIM": Layout(
        lambda weights, other: dict(meta={}, state_dict={
            **under('backbone.', weights), 'neck.mask_token': SOME}), mixmim),
}


class Loaded(NamedTuple):
    """What became of a file of a layout."""
    report: LoadReport  # of the backbone that was given it by init_cfg
    difference: float  # of its features from those of the source library
    largest: float  # absolute value of those
    by_load: Optional[float]  # difference of mixedae_mm.load; None without a ViT


@torch.no_grad()
def load_layout(title: str, sizes: dict, folder: Path, scale: float = .02) -> Loaded:
    """Make a file of a layout in ``folder``, load it both ways, and compare features.

    ``sizes`` of the ViT are ``img_size``, ``patch_size``, ``embed_dim``, ``depth`` and
    ``num_heads``; ``scale`` is the deviation of what is added to every weight.
    """
    layout = LAYOUTS[title]
    model, features = layout.source(sizes, **layout.options)
    other, _ = layout.source(sizes, **layout.options)
    shaken(other, 1, scale)
    shaken(model, 0, scale)
    path = str(folder / 'weights.pth')
    torch.save(layout.content(model.state_dict(), other.state_dict()), path)
    is_vit = layout.source not in (resnet, mixmim)
    side = sizes['img_size'] if is_vit else 224
    images = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(2))
    expected = features(images)

    backbone = MODELS.build(backbones(layout.source, sizes, **layout.ours))
    backbone.eval()
    report = load_pretrained(backbone, path, complete=not is_vit)
    by_load = None
    if is_vit:
        encoder = mixedae_mm.load(path, device='cpu', heads=sizes['num_heads'])
        by_load = (encoder.model(images) - expected).abs().max().item()
    return Loaded(report, (backbone(images)[-1] - expected).abs().max().item(),
                  expected.abs().max().item(), by_load)


def layout_rows(sizes: dict, folder: Path) -> List[List[str]]:
    """A row of the table for each layout, after its header."""
    table = [['layout', 'tensors loaded', 'left out', 'difference, init_cfg',
              'difference, mixedae_mm.load', 'values to']]
    for title in LAYOUTS:
        found = load_layout(title, sizes, folder)
        report = found.report
        table.append([
            title, f'{report.num_loaded} of {report.num_total}',
            ', '.join(report.ignored) or '–', f'{found.difference:.1e}',
            '–' if found.by_load is None else f'{found.by_load:.1e}',
            f'{found.largest:.2g}'])
    return table
