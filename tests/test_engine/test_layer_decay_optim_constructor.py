"""Learning rates and weight decays of every parameter, computed by hand."""
import pytest
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from torch import nn

import mixedae_mm  # noqa: F401
from mixedae_mm.utils.errors import ConfigurationError

LR, DECAY = 0.1, 0.05
VIT = dict(
    type='MixedAEViT', img_size=32, patch_size=16,
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32))

# The parameters of a Transformer layer, and their weight decay.
LAYER = {
    'ln1.weight': 0, 'ln1.bias': 0, 'attn.qkv.weight': DECAY, 'attn.qkv.bias': 0,
    'attn.proj.weight': DECAY, 'attn.proj.bias': 0,
    'attn.rel_pos_bias.relative_position_bias_table': 0, 'ln2.weight': 0,
    'ln2.bias': 0, 'ffn.layers.0.0.weight': DECAY, 'ffn.layers.0.0.bias': 0,
    'ffn.layers.1.weight': DECAY, 'ffn.layers.1.bias': 0,
}
# Layer by layer at a rate of 1/2: two Transformer layers make n = 4 of them.
TABLE = {
    'backbone.cls_token': (LR / 8, 0),
    'backbone.pos_embed': (LR / 8, 0),
    'backbone.patch_embed.projection.weight': (LR / 8, DECAY),
    'backbone.patch_embed.projection.bias': (LR / 8, 0),
    **{f'backbone.layers.0.{name}': (LR / 4, decay) for name, decay in LAYER.items()},
    **{f'backbone.layers.1.{name}': (LR / 2, decay) for name, decay in LAYER.items()},
    'backbone.ln1.weight': (LR, 0),
    'backbone.ln1.bias': (LR, 0),
}


class Headed(nn.Module):
    """As small as a model of any toolbox can be; it knows no depths."""

    def __init__(self, **backbone):
        super().__init__()
        self.backbone = MODELS.build(dict(VIT, **backbone))
        self.decode_head = nn.Sequential(nn.Conv2d(16, 4, 1), nn.BatchNorm2d(4))


def classifier(backbone):
    return dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(backbone, out_type='avg_featmap'),  # which has a last norm, ln2
        head=dict(type='LinearClsHead', num_classes=3, in_channels=16))


def segmentor(backbone):
    return dict(
        type='mmseg.EncoderDecoder', backbone=dict(backbone, out_type='featmap'),
        decode_head=dict(
            type='FCNHead', in_channels=16, channels=4, num_convs=1,
            num_classes=2, norm_cfg=dict(type='BN')))


def detector(backbone):
    return dict(
        type='mmdet.RetinaNet', backbone=dict(backbone, out_type='featmap'), neck=None,
        bbox_head=dict(
            type='RetinaHead', num_classes=2, in_channels=16, feat_channels=8,
            stacked_convs=1))


def optimizer_of(model, rate=0.5, **paramwise):
    return build_optim_wrapper(model, dict(
        type='OptimWrapper',
        optimizer=dict(type='AdamW', lr=LR, weight_decay=DECAY),
        constructor='LayerDecayOptimWrapperConstructor',
        paramwise_cfg=dict(layer_decay_rate=rate, **paramwise))).optimizer


def parameter_settings(model, **options):
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: (group['lr'], group['weight_decay'])
            for group in optimizer_of(model, **options).param_groups
            for parameter in group['params']}


@pytest.mark.parametrize('toolbox, model', [
    ('mmpretrain', classifier), ('mmseg', segmentor), ('mmdet', detector)])
def test_models_of_all_toolboxes(toolbox, model):
    pytest.importorskip(f'{toolbox}.models')
    with DefaultScope.overwrite_default_scope(toolbox):
        model = MODELS.build(model(dict(VIT, relative_position_bias=True)))
        settings = parameter_settings(model)
    rest = {name: (LR, DECAY if parameter.ndim > 1 else 0)
            for name, parameter in model.named_parameters()
            if name not in TABLE}
    assert rest and settings == dict(TABLE, **rest)


def test_one_group_for_each_layer_with_and_without_decay():
    groups = optimizer_of(Headed()).param_groups
    assert [(group['layer_id'], group['weight_decay']) for group in groups] == [
        (layer, decay) for layer in range(4) for decay in (0, DECAY)]


def test_pretraining_embeddings_do_not_decay():
    settings = parameter_settings(Headed(num_sources=4, k_ratio=0.5))
    assert settings['backbone.segment_embed'] == (LR / 8, 0)
    assert 'backbone.pos_embed' not in settings  # fixed


def test_mmpretrain_options_work_as_there():
    """``custom_keys`` and multipliers of its configs; frozen layers are left out."""
    model = Headed()
    model.backbone.layers[1].requires_grad_(False)
    settings = parameter_settings(
        model, norm_decay_mult=1., bias_decay_mult=0.5, flat_decay_mult=None,
        custom_keys={'.cls_token': dict(decay_mult=0.1)})
    assert settings['backbone.layers.0.ln1.weight'] == (LR / 4, DECAY)
    assert settings['backbone.layers.0.attn.qkv.bias'] == (LR / 4, DECAY / 2)
    assert settings['backbone.cls_token'] == pytest.approx((LR / 8, DECAY / 10))
    assert settings['backbone.pos_embed'] == (LR / 8, 0)
    assert not any('backbone.layers.1.' in name for name in settings)


@pytest.mark.parametrize('rate', [0, -1, 1.5])
def test_wrong_rates(rate):
    with pytest.raises(ConfigurationError, match=r'must lie in \(0, 1\]'):
        optimizer_of(Headed(), rate)


def test_backbones_without_depths_and_optimizers_without_decay():
    model = Headed()
    with pytest.raises(ConfigurationError, match='needs weight_decay'):
        build_optim_wrapper(model, dict(
            type='OptimWrapper', optimizer=dict(type='SGD', lr=LR),
            constructor='LayerDecayOptimWrapperConstructor'))
    model.backbone = nn.Linear(2, 2)
    with pytest.raises(ConfigurationError, match='Headed is Linear, which'):
        optimizer_of(model)
