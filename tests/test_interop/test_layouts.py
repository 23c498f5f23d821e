"""Files in the layouts that others publish are loaded as they are."""
import pytest
import timm  # noqa: F401  (optional, as transformers is)
import torch
import transformers  # noqa: F401
from mmengine.registry import MODELS

import mixedae_mm
from converters.layouts import LAYOUTS, load_layout, resnet, under
from mixedae_mm.apis.export import export
from mixedae_mm.interop.convert import convert
from mixedae_mm.interop.reading import read_vit
from mixedae_mm.models.checkpoint_loading import load_pretrained
from mixedae_mm.utils.errors import ConfigurationError

SIZES = dict(img_size=32, patch_size=8, embed_dim=32, depth=3, num_heads=2)


@pytest.mark.parametrize('title, patch', [
    *((title, 8) for title in LAYOUTS), ('DINOv2', 14), ("Meta's MAE", 14)])
def test_a_layout_is_loaded_and_computes_the_same(tmp_path, title, patch):
    sizes = dict(SIZES, patch_size=patch, img_size=4 * patch)
    found = load_layout(title, sizes, tmp_path, scale=.1)
    limit = 1e-4 * max(1, found.largest)  # epsilon is assumed for Hugging Face
    assert found.difference < limit
    assert found.by_load is None or found.by_load < limit
    # BEiT has positions relative to each other alone.
    new = ['pos_embed'] if title in ('BEiT', 'BEiT, fine-tuned') else []
    assert found.report.new == new
    assert found.report.num_loaded == found.report.num_total - len(new)


@pytest.mark.parametrize('title, needed', [
    ('DINOv2', 'it needs layer_scale_init_value=0.1)'),
    ('BEiT', 'it needs layer_scale_init_value=0.1 and relative_position_bias=True)'),
])
def test_what_the_backbone_lacks_is_named(tmp_path, monkeypatch, title, needed):
    monkeypatch.setitem(LAYOUTS, title, LAYOUTS[title]._replace(ours={}))
    with pytest.raises(ConfigurationError) as error:
        load_layout(title, SIZES, tmp_path)
    assert needed in str(error.value)


@pytest.mark.parametrize('title, to', [
    ('DINOv2', 'timm'), ('DINOv2', 'mm'), ('DINOv2', 'hf'), ('BEiT', 'mm')])
def test_what_a_format_cannot_hold_is_refused(tmp_path, title, to):
    load_layout(title, SIZES, tmp_path)
    source, back = tmp_path / 'weights.pth', tmp_path / 'back.pth'
    options = dict(heads=2, encoder_only=True)
    if (title, to) in (('BEiT', 'mm'), ('DINOv2', 'hf')):
        with pytest.raises(ConfigurationError, match='has no place'):
            convert(source, tmp_path / 'out', to, **options)
        return
    convert(source, tmp_path / 'out', to, **options)
    convert(tmp_path / 'out', back, 'mm')
    vit = read_vit(back)
    assert vit.description.layer_scale
    for name, value in read_vit(source, heads=2).weights.items():
        assert torch.equal(vit.weights[name], value), name


def test_relative_positions_are_not_exported(tmp_path):
    load_layout('BEiT', SIZES, tmp_path)
    encoder = mixedae_mm.load(tmp_path / 'weights.pth', device='cpu', heads=2)
    with pytest.raises(ConfigurationError, match='relative position|PyTorch 2.5'):
        export(encoder, str(tmp_path / 'beit.pt2'))


@pytest.mark.parametrize('lost', ['layer3.1.conv2.weight', 'bn1.running_mean'])
def test_a_resnet_is_loaded_completely_or_not_at_all(tmp_path, lost):
    weights = resnet({})[0].state_dict()
    path = str(tmp_path / 'resnet.pth')
    init_cfg = dict(type='Pretrained', checkpoint=path, complete=True)
    model = MODELS.build(dict(type='mmpretrain.ResNet', depth=50, init_cfg=init_cfg))
    torch.save(under('module.encoder_q.', weights), path)
    model.init_weights()
    assert torch.equal(model.state_dict()[lost], weights[lost])
    del weights[lost]
    torch.save(under('module.encoder_q.', weights), path)
    with pytest.raises(ConfigurationError, match=lost):
        load_pretrained(model, path, complete=True)
