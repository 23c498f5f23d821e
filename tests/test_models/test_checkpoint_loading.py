"""A checkpoint loads completely and says so, or is refused with a sentence."""
import logging

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub, MMLogger
from mmpretrain.models.utils import resize_pos_embed

from mixedae_mm.models.checkpoint_loading import load_pretrained
from mixedae_mm.utils.errors import ConfigurationError
from small_vit import ARCH, NUM_TENSORS, backbone, mae, mixedae, randomize


def save(state_dict, path):
    """What mmengine's runner writes beside the weights, with its log."""
    hub = MessageHub.get_instance('checkpoint')
    hub.update_scalar('train/loss', 0.5)
    hub.update_scalar('train/lr', np.float32(1e-3))
    hub.update_info('table', np.arange(3.))
    torch.save(
        dict(
            meta=dict(epoch=1, iter=10, dataset_meta=dict(classes=('a', ))),
            state_dict=state_dict,
            message_hub=hub.state_dict(),
            optimizer=dict(state={}, param_groups=[dict(lr=1e-3)])), path)
    return str(path)


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


@pytest.fixture
def pretrained(tmp_path):
    """A MixedAE checkpoint and its weights."""
    model, _ = mixedae()
    return save(model.state_dict(), tmp_path / 'mixedae.pth'), model


def the_line(lines, path):
    found = [line for line in lines if line.startswith(f'{path}: ')]
    assert len(found) == 1, lines
    return found[0][len(path) + 2:]


@pytest.mark.parametrize('prefix', [None, 'backbone.', 'backbone'])
def test_mixedae_checkpoint_loads_through_init_cfg(pretrained, lines, prefix):
    path, model = pretrained
    vit = backbone(
        init_cfg=dict(type='Pretrained', checkpoint=path, prefix=prefix))
    vit.init_weights()
    for name, value in vit.state_dict().items():
        assert torch.equal(value, model.backbone.state_dict()[name]), name
    assert the_line(lines, path) == (
        f'loaded {NUM_TENSORS} of {NUM_TENSORS} backbone tensors; '
        'ignored: segment_embed, head, neck')
    assert vit.init_cfg['type'] == 'Pretrained'  # as the user gave it


def test_the_algorithm_hands_its_backbone_on_to_a_classifier(
        pretrained, lines):
    """The loading is reached through a whole model's ``init_weights``."""
    from mmpretrain.registry import MODELS
    path, model = pretrained
    classifier = MODELS.build(
        dict(
            type='ImageClassifier',
            backbone=dict(
                type='MixedAEViT',
                arch=ARCH,
                img_size=32,
                patch_size=8,
                out_type='avg_featmap',
                final_norm=False,
                init_cfg=[
                    dict(type='TruncNormal', layer='Linear', std=.02),
                    dict(type='Pretrained', checkpoint=path)
                ]),
            head=dict(type='LinearClsHead', num_classes=3, in_channels=32),
            init_cfg=dict(type='Xavier', layer='Linear')))
    classifier.init_weights()
    weights = model.backbone.state_dict()
    own = classifier.backbone.state_dict()
    assert all(
        torch.equal(own[name], weights[name]) for name in own
        if not name.startswith('ln2'))
    assert own['ln2.weight'].eq(1).all() and own['ln2.bias'].eq(0).all()
    assert the_line(lines, path) == (
        f'loaded {NUM_TENSORS - 2} of {NUM_TENSORS} backbone tensors; '
        'new, not in the checkpoint: ln2; '
        'ignored: segment_embed, ln1, head, neck')


def test_mae_checkpoint(tmp_path, lines):
    model = mae()
    path = save(model.state_dict(), tmp_path / 'mae.pth')
    vit = backbone()
    report = load_pretrained(vit, path)
    assert all(
        torch.equal(value, model.backbone.state_dict()[name])
        for name, value in vit.state_dict().items())
    assert report.num_loaded == report.num_total == NUM_TENSORS
    assert report.ignored == ['neck']
    assert report.new == report.resized == []


def test_mae_warm_starts_pre_training(tmp_path):
    path = save(mae().state_dict(), tmp_path / 'mae.pth')
    vit = backbone(num_sources=4)
    assert load_pretrained(vit, path).new == ['segment_embed']


def test_backbone_alone_with_and_without_prefix(tmp_path):
    weights = randomize(backbone()).state_dict()
    path = str(tmp_path / 'backbone.pth')
    torch.save(weights, path)
    for prefix in (None, 'backbone.', ''):
        vit = backbone()
        report = load_pretrained(vit, path, prefix)
        assert report.num_loaded == NUM_TENSORS
        assert all(
            torch.equal(value, weights[name])
            for name, value in vit.state_dict().items())


@pytest.mark.parametrize('size, grid', [(64, (8, 8)), ((40, 72), (5, 9)),
                                        ((30, 50), (4, 7))])
def test_positions_are_resized_to_other_inputs(pretrained, lines, size, grid):
    path, model = pretrained
    vit = backbone(img_size=size)
    load_pretrained(vit, path)
    expected = resize_pos_embed(model.backbone.pos_embed, (4, 4), grid)
    torch.testing.assert_close(vit.pos_embed, expected)
    assert f'resized pos_embed 4x4 -> {grid[0]}x{grid[1]}; ' in the_line(
        lines, path)


def test_relative_position_bias_starts_at_zero_and_is_named(pretrained):
    path, _ = pretrained
    vit = randomize(backbone(relative_position_bias=True, img_size=64))
    for layer in vit.layers:
        layer.attn.rel_pos_bias.relative_position_bias_table.data.zero_()
    report = load_pretrained(vit, path)
    name = 'layers.*.attn.rel_pos_bias.relative_position_bias_table'
    assert report.new == [name]
    table = vit.layers[0].attn.rel_pos_bias.relative_position_bias_table
    assert table.eq(0).all()


def test_fine_tuned_relative_position_bias_is_resized(tmp_path):
    vit = randomize(backbone(relative_position_bias=True))
    path = save(vit.state_dict(), tmp_path / 'segmentor.pth')
    larger = backbone(relative_position_bias=True, img_size=64)
    report = load_pretrained(larger, path)
    assert report.num_loaded == report.num_total == NUM_TENSORS + 4
    assert ('layers.0.attn.rel_pos_bias.relative_position_bias_table '
            '4x4 -> 8x8') in report.resized
    bias = vit.layers[1].attn.rel_pos_bias.relative_position_bias_table
    resized = larger.layers[1].attn.rel_pos_bias.relative_position_bias_table
    assert resized.shape == (15 * 15 + 3, 2)
    # The corners, the middle (no offset) and CLS are the same pairs as before.
    picture, before = resized[:-3].view(15, 15, 2), bias[:-3].view(7, 7, 2)
    torch.testing.assert_close(picture[::14, ::14], before[::6, ::6])
    torch.testing.assert_close(picture[7, 7], before[3, 3])
    assert torch.equal(resized[-3:], bias[-3:])


@pytest.mark.parametrize('shared', [True, False])
def test_beit_becomes_the_same_function(tmp_path, lines, shared):
    """mmpretrain's BEiTViT, as pre-trained (shared bias) and fine-tuned."""
    from mmpretrain.models import BEiTViT
    beit = randomize(
        BEiTViT(
            ARCH,
            img_size=32,
            patch_size=8,
            out_type='featmap',
            final_norm=True,
            use_rel_pos_bias=not shared,
            use_shared_rel_pos_bias=shared))
    beit.eval()
    weights = {f'backbone.{k}': v for k, v in beit.state_dict().items()}
    weights['backbone.mask_token'] = torch.zeros(1, 1, 32)
    path = save(weights, tmp_path / 'beit.pth')
    options = dict(layer_scale_init_value=.1, relative_position_bias=True)
    vit = randomize(backbone(**options)).eval()
    load_pretrained(vit, path)
    image = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(vit(image)[0], beit(image)[0])
    total = NUM_TENSORS + 3 * 4
    assert vit.pos_embed.eq(0).all()  # BEiT has relative positions only
    line = the_line(lines, path)
    assert line.startswith(f'loaded {total - 1} of {total} backbone tensors; '
                           'new, not in the checkpoint: pos_embed; ignored: ')
    assert 'mask_token' in line
    larger = backbone(img_size=64, **options)
    assert len(load_pretrained(larger, path).resized) == 4

    with pytest.raises(ConfigurationError, match='BEiT needs layer_scale'):
        load_pretrained(backbone(), path)


@pytest.mark.parametrize('kind', ['MoCoV3ViT', 'VisionTransformer'])
def test_checkpoints_of_moco_v3_and_deit(tmp_path, kind):
    """Whole checkpoints of mmpretrain, with what surrounds the backbone."""
    from mmpretrain.registry import MODELS
    vit = randomize(
        MODELS.build(dict(type=kind, arch=ARCH, img_size=32, patch_size=8)))
    weights = {f'backbone.{k}': v for k, v in vit.state_dict().items()}
    if kind == 'MoCoV3ViT':
        weights.update({
            f'momentum_encoder.module.0.{k}': v + 1
            for k, v in vit.state_dict().items()
        })
    weights['head.layers.head.weight'] = torch.ones(10, 32)
    ours = backbone()
    report = load_pretrained(
        ours, save(weights, tmp_path / 'checkpoint.pth'))
    assert report.num_loaded == report.num_total == NUM_TENSORS
    assert all(
        torch.equal(value, vit.state_dict()[name])
        for name, value in ours.state_dict().items())


def test_half_precision_weights_and_safetensors(tmp_path):
    weights = randomize(backbone()).state_dict()
    path = save({f'backbone.{k}': v.half() for k, v in weights.items()},
                tmp_path / 'half.pth')
    vit = backbone()
    load_pretrained(vit, path)
    assert vit.pos_embed.dtype == torch.float32
    assert torch.equal(vit.pos_embed, weights['pos_embed'].half().float())

    safetensors = pytest.importorskip('safetensors.torch')
    path = str(tmp_path / 'weights.safetensors')
    safetensors.save_file(weights, path)
    assert load_pretrained(vit, path).num_loaded == NUM_TENSORS
    assert torch.equal(vit.pos_embed, weights['pos_embed'])


def refusal(weights, path, prefix=None, **options):
    """The sentence a checkpoint is refused with; nothing is loaded then."""
    if isinstance(weights, dict):
        save(weights, path)
    vit = randomize(backbone(**options))
    before = {k: v.clone() for k, v in vit.state_dict().items()}
    with pytest.raises(ConfigurationError) as error:
        load_pretrained(vit, str(path), prefix)
    assert all(
        torch.equal(value, before[name])
        for name, value in vit.state_dict().items())
    return str(error.value)


def test_uninitialised_weights_are_an_error_that_lists_them(
        pretrained, tmp_path):
    weights = pretrained[1].state_dict()
    lost = ['cls_token', 'layers.1.attn.qkv.bias', 'layers.2.ln2.weight']
    for name in lost:
        del weights[f'backbone.{name}']
    message = refusal(weights, tmp_path / 'partial.pth')
    assert message.endswith(
        f'would leave backbone weights uninitialised: {", ".join(lost)}.')


def test_another_architecture_is_one_sentence(pretrained, tmp_path):
    weights = pretrained[1].state_dict()
    path = tmp_path / 'checkpoint.pth'
    assert refusal(weights, path, arch='base', patch_size=16) == (
        f'{path} holds another ViT than this backbone: patch size 8 instead '
        'of 16, width 32 instead of 768, layers 4 instead of 12.')
    assert 'patch size 8 instead of 4' in refusal(weights, path, patch_size=4)
    assert 'layers 4 instead of 3' in refusal(
        weights, path, arch=dict(ARCH, num_layers=3))
    assert 'input channels 3 instead of 1' in refusal(
        weights, path, in_channels=1)
    assert 'other shapes than this backbone: layers.0.ffn' in refusal(
        weights, path, arch=dict(ARCH, feedforward_channels=48))


def test_weights_without_a_place_are_not_dropped(pretrained, tmp_path):
    """Layer scale is part of the function that was learnt."""
    weights = pretrained[1].state_dict()
    weights['backbone.layers.0.attn.gamma1.weight'] = torch.ones(32)
    assert refusal(weights, tmp_path / 'deit3.pth').endswith(
        'no place for: layers.0.attn.gamma1.weight.')


def test_prefixes_that_lead_nowhere(pretrained, tmp_path):
    weights = pretrained[1].state_dict()
    path = tmp_path / 'checkpoint.pth'
    assert refusal(weights, path, prefix='teacher.') == (
        f"{path} has no ViT under prefix 'teacher.', but under "
        "['backbone.'].")
    twins = {
        f'{name}.{key}': value
        for name in ('student', 'teacher') for key, value in weights.items()
        if key.startswith('backbone.')
    }
    assert refusal(twins, path) == (
        f'{path} has several ViTs; choose one by prefix= of '
        "['student.backbone.', 'teacher.backbone.'].")
    vit = backbone()
    load_pretrained(vit, str(path), 'teacher.backbone.')
    assert torch.equal(vit.cls_token, weights['backbone.cls_token'])


def test_no_vit_at_all(tmp_path):
    assert refusal({'fc.weight': torch.ones(2)},
                   tmp_path / 'linear.pth').endswith(
                       'has no ViT in the names of mmpretrain.')


def test_numbers_that_are_none(pretrained, tmp_path):
    weights = pretrained[1].state_dict()
    weights['backbone.cls_token'][0, 0, 3] = torch.nan
    assert 'NaN or infinite values in 1 of' in refusal(
        weights, tmp_path / 'nan.pth')


def test_files_that_are_no_checkpoint(pretrained, tmp_path):
    path = tmp_path / 'bad.pth'
    assert refusal(None, path) == f'The checkpoint {path} does not exist.'
    unreadable = (f'{path} is not a readable checkpoint; it may be truncated, or '
                  'another kind of file.')
    with open(pretrained[0], 'rb') as file:
        content = file.read()
    for broken in (b'', b'hello', content[:1000], content[:-100]):
        path.write_bytes(broken)
        assert refusal(None, path) == unreadable
    assert "needs the path of a file" in refusal(None, '')
    torch.save(torch.ones(2), path)
    assert 'holds a Tensor' in refusal(None, path)
    torch.save(dict(meta={}), path)
    assert 'holds no weights' in refusal(None, path)


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
