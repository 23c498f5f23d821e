"""Checkpoints of other libraries load by themselves, and compute the same."""
from argparse import Namespace

import pytest
import torch
from mmengine.registry import MODELS

from mixedae_mm.models.checkpoint_loading import load_pretrained
from small_vit import ARCH, backbone, mae, mixedae, randomize

IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def timm_vit(**options):
    timm = pytest.importorskip('timm')
    return randomize(timm.models.VisionTransformer(
        img_size=32, patch_size=8, embed_dim=32, depth=4, num_heads=2, mlp_ratio=2,
        num_classes=3, **options)).eval()


def under(prefix, weights):
    return {prefix + name: value for name, value in weights.items()}


# What published files look like: (of the ViT's weights, of a second ViT's).
FILES = {
    'timm': lambda vit, other: vit,
    'DeiT': lambda vit, other: dict(model=vit, args=Namespace()),
    'DINO': lambda vit, other: dict(
        student=under('module.backbone.', other), epoch=3,
        teacher=dict(under('backbone.', vit), **{'head.mlp.0.weight': torch.ones(2)})),
    'MoCo v3': lambda vit, other: dict(epoch=3, arch='vit', state_dict=dict(
        under('module.base_encoder.', vit),
        **under('module.momentum_encoder.', other),
        **{'module.predictor.0.weight': torch.ones(2)})),
    'compiled': lambda vit, other: under('_orig_mod.', vit),
}


@pytest.mark.parametrize('kind', FILES)
def test_files_in_the_names_of_timm(tmp_path, kind):
    vit, other = timm_vit(), timm_vit()
    for parameter in other.parameters():
        parameter.data += 1
    torch.save(FILES[kind](vit.state_dict(), other.state_dict()), tmp_path / 'a.pth')
    ours = backbone(out_type='raw').eval()
    report = load_pretrained(ours, str(tmp_path / 'a.pth'))
    torch.testing.assert_close(ours(IMAGES)[0], vit.forward_features(IMAGES))
    assert "timm or Meta's MAE" in str(report) and report.new == []


def test_a_second_vit_by_its_prefix(tmp_path):
    vit, other = timm_vit(), timm_vit()
    other.blocks[0].attn.qkv.weight.data += 1
    torch.save(FILES['MoCo v3'](other.state_dict(), vit.state_dict()),
               tmp_path / 'a.pth')
    ours = backbone(out_type='raw').eval()
    load_pretrained(ours, str(tmp_path / 'a.pth'), 'momentum_encoder.')
    torch.testing.assert_close(ours(IMAGES)[0], vit.forward_features(IMAGES))


def test_what_the_table_does_not_know_is_refused(tmp_path):
    vit = timm_vit(reg_tokens=2)
    torch.save(vit.state_dict(), tmp_path / 'a.pth')
    with pytest.raises(ValueError, match='no place for: reg_token'):
        load_pretrained(backbone(), str(tmp_path / 'a.pth'))


@pytest.mark.parametrize('kind', ['ViTModel', 'ViTForImageClassification'])
def test_hugging_face(tmp_path, kind):
    transformers = pytest.importorskip('transformers')
    vit = randomize(getattr(transformers, kind)(transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=2,
        intermediate_size=64, image_size=32, patch_size=8, layer_norm_eps=1e-6))).eval()
    vit.save_pretrained(tmp_path)
    ours = backbone(out_type='raw').eval()
    report = load_pretrained(ours, str(tmp_path / 'model.safetensors'))
    encoder = getattr(vit, 'vit', vit)
    torch.testing.assert_close(
        ours(IMAGES)[0], encoder(IMAGES).last_hidden_state, rtol=1e-4, atol=1e-4)
    assert 'Hugging Face' in str(report)


def test_metas_mae_warm_starts_encoder_and_decoder(tmp_path):
    """With all that Meta's training script saves beside the weights."""
    start = mae()
    theirs = {}
    for name, value in start.state_dict().items():
        for ours, meta in (
                ('backbone.patch_embed.projection', 'patch_embed.proj'),
                ('backbone.ln1', 'norm'), ('backbone.', ''), ('neck.', ''),
                ('decoder_blocks', 'decoder_BLOCKS'), ('layers.', 'blocks.', ),
                ('ffn.blocks.0.0', 'mlp.fc1'), ('ffn.blocks.1', 'mlp.fc2'),
                ('decoder_BLOCKS', 'decoder_blocks'), ('.ln', '.norm'),
                ('decoder_ln1', 'decoder_norm')):
            name = name.replace(ours, meta)
        theirs[name.replace('ln1.', 'decoder_norm.') if name.startswith('ln1') else
               name] = value
    torch.save(dict(model=theirs, optimizer={}, epoch=3, scaler={}, args=Namespace()),
               tmp_path / 'a.pth')
    model, _ = mixedae()
    report = load_pretrained(model, str(tmp_path / 'a.pth'))
    assert report.new == ['backbone.segment_embed', 'head.projector']
    own = model.state_dict()
    assert all(torch.equal(own[name], value)
               for name, value in start.state_dict().items())


def test_a_classifier_takes_its_head_along(tmp_path):
    vit = timm_vit(global_pool='avg', fc_norm=True)
    torch.save(vit.state_dict(), tmp_path / 'a.pth')
    classifier = MODELS.build(dict(
        type='mmpretrain.ImageClassifier',
        backbone=dict(type='MixedAEViT', arch=ARCH, img_size=32, patch_size=8,
                      out_type='avg_featmap', final_norm=False),
        head=dict(type='mmpretrain.LinearClsHead', num_classes=3, in_channels=32)))
    classifier.eval()
    report = load_pretrained(classifier, str(tmp_path / 'a.pth'))
    assert report.new == report.ignored == []
    torch.testing.assert_close(
        classifier.head(classifier.extract_feat(IMAGES)), vit(IMAGES))
