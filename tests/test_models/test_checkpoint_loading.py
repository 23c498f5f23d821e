"""A checkpoint loads completely and says so, or is refused with a sentence."""
import logging

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import MODELS

from mixedae_mm.models.checkpoint_fitting import LANDMARK, fit
from mixedae_mm.models.checkpoint_loading import load_pretrained
from mixedae_mm.utils.errors import ConfigurationError
from small_vit import ARCH, NUM_TENSORS, backbone, mae, mixedae, randomize, under

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / 'a.pth')


@pytest.fixture
def pretrained(path):
    """The weights of a MixedAE, which are in a file."""
    weights = mixedae().state_dict()
    save(weights, path)
    return weights


def save(weights, path):
    torch.save(dict(state_dict=weights, meta=dict(epoch=1)), path)


@pytest.fixture
def lines():
    """What is logged, a string a record."""
    records = []
    handler = logging.Handler()
    handler.emit = lambda record: records.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield records
    logger.removeHandler(handler)


def the_line(lines, path):
    found = [line for line in lines if line.startswith(f'{path}: ')]
    assert len(found) == 1, lines
    return found[0][len(path) + 2:]


def assert_holds(module, weights):
    for name, value in module.state_dict().items():
        assert torch.equal(value, weights[name]), name


@pytest.mark.parametrize('prefix', [None, 'backbone.', 'backbone'])
def test_mixedae_checkpoint_loads_through_init_cfg(pretrained, path, lines, prefix):
    vit = backbone(
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix=prefix))
    vit.init_weights()
    assert_holds(vit, under('', pretrained, 'backbone.'))
    assert the_line(lines, path) == (
        f'loaded {NUM_TENSORS} of {NUM_TENSORS} backbone tensors; '
        'ignored: segment_embed, head, neck')
    assert vit.init_cfg['type'] == 'Pretrained'  # as the user gave it


def classifier(**backbone_options):
    return MODELS.build(dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(
            type='MixedAEViT', arch=ARCH, img_size=32, patch_size=8,
            out_type='avg_featmap', final_norm=False, **backbone_options),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32),
        init_cfg=dict(type='Xavier', layer='Linear')))


def test_a_classifier_loads_its_backbone(pretrained, path, lines):
    """The loading is reached through a whole model's ``init_weights``."""
    model = classifier(init_cfg=[
        dict(type='TruncNormal', layer='Linear', std=.02),
        dict(type='Pretrained', checkpoint=path)])
    model.init_weights()
    own = model.backbone.state_dict()
    assert all(torch.equal(own[name], pretrained[f'backbone.{name}']) for name in own
               if not name.startswith('ln2'))
    assert own['ln2.weight'].eq(1).all() and own['ln2.bias'].eq(0).all()
    assert the_line(lines, path) == (
        f'loaded {NUM_TENSORS - 2} of {NUM_TENSORS} backbone tensors; '
        'new, not in the checkpoint: ln2; ignored: segment_embed, ln1, head, neck')


@pytest.mark.parametrize('prefix', [None, 'backbone.', ''])
def test_a_backbone_that_was_saved_alone(path, prefix):
    weights = randomize(backbone()).state_dict()
    torch.save(weights, path)
    vit = backbone()
    assert load_pretrained(vit, path, prefix).num_loaded == NUM_TENSORS
    assert_holds(vit, weights)


@pytest.mark.parametrize('kind', ['MAE', 'MoCoV3ViT', 'VisionTransformer'])
def test_checkpoints_of_mmpretrain(path, kind):
    """Whole checkpoints, with what surrounds the backbone."""
    if kind == 'MAE':
        weights = mae().state_dict()
    else:
        vit = randomize(MODELS.build(dict(
            type=f'mmpretrain.{kind}', arch=ARCH, img_size=32, patch_size=8)))
        weights = under('backbone.', vit.state_dict())
        weights['head.layers.head.weight'] = torch.ones(10, 32)
        if kind == 'MoCoV3ViT':
            weights.update(
                under('momentum_encoder.module.0.', randomize(vit, 8).state_dict()))
    save(weights, path)
    ours = backbone()
    report = load_pretrained(ours, path)
    assert report.num_loaded == report.num_total == NUM_TENSORS
    assert report.new == report.resized == []
    assert_holds(ours, under('', weights, 'backbone.'))
    assert load_pretrained(backbone(num_sources=4), path).new == ['segment_embed']


def test_relative_position_bias_may_be_new(pretrained, path):
    vit = backbone(relative_position_bias=True, img_size=64)
    name = 'layers.*.attn.rel_pos_bias.relative_position_bias_table'
    assert load_pretrained(vit, path).new == [name]
    table = vit.layers[0].attn.rel_pos_bias.relative_position_bias_table
    assert table.eq(0).all()


def test_half_of_a_beits_bias_is_left_to_be_refused_by_name():
    from mixedae_mm.models.checkpoint_names import beit_as_vit
    weights = {'layers.0.attn.q_bias': torch.zeros(2)}
    assert beit_as_vit(weights) == weights


@pytest.mark.parametrize('shared', [True, False])
def test_beit_becomes_the_same_function(path, lines, shared):
    """mmpretrain's BEiTViT, as pre-trained (shared bias) and fine-tuned."""
    from mmpretrain.models import BEiTViT
    beit = randomize(BEiTViT(
        ARCH, img_size=32, patch_size=8, out_type='featmap', final_norm=True,
        use_rel_pos_bias=not shared, use_shared_rel_pos_bias=shared))
    beit.eval()
    weights = under('backbone.', beit.state_dict())
    weights['backbone.mask_token'] = torch.zeros(1, 1, 32)
    save(weights, path)
    options = dict(layer_scale_init_value=.1, relative_position_bias=True)
    vit = randomize(backbone(**options)).eval()
    load_pretrained(vit, path)
    torch.testing.assert_close(vit(IMAGES)[0], beit(IMAGES)[0])
    total = NUM_TENSORS + 3 * 4
    assert vit.pos_embed.eq(0).all()  # BEiT has relative positions only
    line = the_line(lines, path)
    assert line.startswith(f'loaded {total - 1} of {total} backbone tensors; '
                           'new, not in the checkpoint: pos_embed; ignored: ')
    assert 'mask_token' in line
    larger = backbone(img_size=64, **options)
    assert len(load_pretrained(larger, path).resized) == 4

    with pytest.raises(ConfigurationError, match='it needs layer_scale.* and relative'):
        load_pretrained(backbone(), path)


def test_half_precision_weights_and_safetensors(path, tmp_path):
    weights = randomize(backbone()).state_dict()
    save({f'backbone.{k}': v.half() for k, v in weights.items()}, path)
    vit = backbone()
    load_pretrained(vit, path)
    assert vit.pos_embed.dtype == torch.float32
    assert torch.equal(vit.pos_embed, weights['pos_embed'].half().float())

    safetensors = pytest.importorskip('safetensors.torch')
    safetensors.save_file(weights, tmp_path / 'weights.safetensors')
    load_pretrained(vit, str(tmp_path / 'weights.safetensors'))
    assert_holds(vit, weights)


# Names of other libraries


def timm_vit(seed=7, **options):
    timm = pytest.importorskip('timm')
    return randomize(timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, mlp_ratio=2,
        num_classes=3, **options), seed).eval()


# Published files: test_interop/test_layouts.py.


def test_the_second_of_two_encoders_by_its_prefix(path):
    vit, other = timm_vit(), timm_vit(8)
    torch.save(dict(state_dict=under('_orig_mod.', {
        **under('base_encoder.', vit.state_dict()),
        **under('momentum_encoder.', other.state_dict())})), path)
    ours = backbone(out_type='raw').eval()
    report = load_pretrained(ours, path, 'momentum_encoder.')
    torch.testing.assert_close(ours(IMAGES)[0], other.forward_features(IMAGES))
    assert "timm or Meta's MAE" in str(report) and report.new == []


def test_a_classifier_takes_its_head_along(path):
    vit = timm_vit(global_pool='avg', fc_norm=True)
    torch.save(vit.state_dict(), path)
    model = classifier().eval()
    report = load_pretrained(model, path)
    assert report.new == report.ignored == []
    torch.testing.assert_close(model.head(model.extract_feat(IMAGES)), vit(IMAGES))


def test_a_classifier_of_hugging_face(tmp_path):
    transformers = pytest.importorskip('transformers')
    vit = randomize(transformers.ViTForImageClassification(transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=64, image_size=32, patch_size=8, layer_norm_eps=1e-6))).eval()
    vit.save_pretrained(tmp_path)
    ours = backbone(out_type='raw').eval()
    report = load_pretrained(ours, str(tmp_path / 'model.safetensors'))
    torch.testing.assert_close(
        ours(IMAGES)[0], vit.vit(IMAGES).last_hidden_state, rtol=1e-4, atol=1e-4)
    assert 'Hugging Face' in str(report)


# Refusals


def refusal(path, prefix=None, weights=None, **options):
    """The sentence that a checkpoint is refused with; nothing is loaded then."""
    if weights is not None:
        save(weights, path)
    vit = randomize(backbone(**options))
    before = {k: v.clone() for k, v in vit.state_dict().items()}
    with pytest.raises(ConfigurationError) as error:
        load_pretrained(vit, path, prefix)
    assert_holds(vit, before)
    return str(error.value)


def without(*names):
    return lambda weights: [weights.pop(name) for name in list(weights)
                            if name.startswith(names)]


@pytest.mark.parametrize('change, message', [
    (without('backbone.cls_token', 'backbone.layers.1.attn.qkv.bias',
             'backbone.layers.2.ln2.weight'),
     'would leave weights of this backbone uninitialised: cls_token, '
     'layers.1.attn.qkv.bias, layers.2.ln2.weight.'),
    # Layer scale is part of the function that was learnt.
    (lambda w: w.update({'backbone.layers.0.attn.gamma1.weight': torch.ones(32)}),
     'no place for (it needs layer_scale_init_value=0.1): layers.0.attn.gamma1'),
    (lambda w: w['backbone.cls_token'][0, 0, :3].fill_(torch.nan),
     'NaN or infinite values in 1 of'),
    (without('backbone.'), 'has no ViT in the names of mmpretrain.'),
    # Of a ViT that cuts its images into patches by a Linear.
    (lambda w: w.update({f'backbone.{LANDMARK}': torch.ones(32, 192),
                         'backbone.pos_embed': torch.ones(1, 13, 32)}),
     'other shapes than this backbone: patch_embed.projection.weight (32, 192) for'),
], ids=['lost', 'surplus', 'nan', 'no ViT', 'linear'])
def test_weights_that_do_not_fit(pretrained, path, change, message):
    change(pretrained)
    assert message in refusal(path, weights=pretrained)


def test_only_a_backbone_is_told_what_it_needs():
    weights = {'gamma.attn.gamma1.weight': torch.ones(2)}
    with pytest.raises(ConfigurationError, match='this Linear has no place for: gamma'):
        fit(torch.nn.Linear(2, 2), weights, 'The file')


def test_what_the_table_does_not_know_is_refused(path):
    torch.save(timm_vit(reg_tokens=2).state_dict(), path)
    assert 'no place for: reg_token' in refusal(path)


@pytest.mark.parametrize('options, message', [
    (dict(arch='base', patch_size=16), 'holds another ViT than this backbone: patch '
     'size 8 instead of 16, width 32 instead of 768, layers 4 instead of 12.'),
    (dict(in_channels=1), 'input channels 3 instead of 1'),
    (dict(arch=dict(ARCH, feedforward_channels=48)),
     'other shapes than this backbone: layers.0.ffn')])
def test_another_architecture_is_one_sentence(pretrained, path, options, message):
    assert message in refusal(path, **options)


def test_prefixes_that_lead_nowhere(pretrained, path):
    assert refusal(path, prefix='teacher.') == (
        f"{path} has no ViT under prefix 'teacher.', but under ['backbone.'].")
    weights = under('', pretrained, 'backbone.')
    twins = {**under('student.backbone.', weights),
             **under('teacher.backbone.', weights)}
    assert refusal(path, weights=twins) == (
        f'{path} has several ViTs; choose one by prefix= of '
        "['student.backbone.', 'teacher.backbone.'].")
    vit = backbone()
    load_pretrained(vit, path, 'teacher.backbone.')
    assert_holds(vit, weights)


def test_two_checkpoints_at_once_are_refused():
    with pytest.raises(ConfigurationError, match='keep one of them'):
        backbone(
            pretrained='a.pth',
            init_cfg=dict(type='Pretrained', checkpoint='b.pth'))
    vit = backbone(pretrained='a.pth')
    assert vit.init_cfg == dict(type='Pretrained', checkpoint='a.pth')
    with pytest.raises(ConfigurationError, match='several checkpoints'):
        backbone(init_cfg=[dict(type='Pretrained', checkpoint='b.pth')] *
                 2).init_weights()


def test_a_mistyped_initializer_is_refused_when_it_is_built():
    with pytest.raises(ConfigurationError, match="'Pretraned'.* Pretrained, "):
        backbone(init_cfg=dict(type='Pretraned', checkpoint='a.pth'))
