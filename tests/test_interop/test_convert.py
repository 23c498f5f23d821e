"""Conversions against the libraries themselves, in both directions."""
import argparse
import json
import sys

import pytest
import timm
import torch
import transformers
from foreign_checkpoints import (DECODER, DEPTH, GRID, HEADS, PATCH, SIZE, WIDTH,
                                 MetaMAE, classifier_model, hf_mae_model, hf_model,
                                 hf_sizes, mixedae_model, mm_checkpoint, mm_save,
                                 shaken, timm_model)
from mmengine.registry import MODELS
from mmpretrain.models import MAEPretrainDecoder, VisionTransformer
from mmpretrain.models.utils import resize_pos_embed

from mixedae_mm.interop.convert import convert
from mixedae_mm.interop.reading import read_vit
from mixedae_mm.interop.vit import PlainViT, backbone_config
from mixedae_mm.models.checkpoint_loading import load_pretrained
from mixedae_mm.models.checkpoint_names import canonical
from mixedae_mm.models.checkpoint_reading import literal_config
from mixedae_mm.models.layers.position_embedding import sincos_position_embedding
from mixedae_mm.utils.errors import ConfigurationError

# Two libraries add in different orders; weights are exactly equal.
CLOSE = dict(rtol=0, atol=2e-5)


@pytest.fixture
def images():
    return torch.randn(2, 3, SIZE, SIZE,
                       generator=torch.Generator().manual_seed(1))


@pytest.fixture
def mixedae(tmp_path):
    path = tmp_path / 'mixedae.pth'
    return path, mm_checkpoint(path, mixedae_model())


def tokens_of_mm(model, images):
    """All tokens of the encoder, through its plain path."""
    with torch.no_grad():
        return model.backbone(images)[-1]


def plain_backbone(path):
    """mmpretrain's own ViT with converted weights, loaded strictly."""
    vit = read_vit(path)
    backbone = VisionTransformer(**backbone_config(vit))
    weights = torch.load(path, weights_only=True)['state_dict']
    backbone.load_state_dict({
        name[len('backbone.'):]: value
        for name, value in weights.items() if name.startswith('backbone.')
    })
    backbone.eval()
    return backbone


def from_hub(kind, folder, **options):
    """A model of Hugging Face, with all of its weights and no others."""
    model, info = kind.from_pretrained(folder, output_loading_info=True, **options)
    assert not info['missing_keys'] and not info['unexpected_keys']
    return model.eval()


# Out of mixedae_mm


def by_timm(folder):
    model = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    assert model.pretrained_cfg['mean'] == pytest.approx(
        (120 / 255, 110 / 255, 100 / 255))
    return model, model.forward_features


def by_hugging_face(folder):
    model = from_hub(transformers.ViTModel, folder, add_pooling_layer=False)
    assert model.config.layer_norm_eps == 1e-6  # its default is 1e-12
    return model, lambda images: model(images).last_hidden_state


def by_mmpretrain(folder):
    model = plain_backbone(folder / 'model.pth')
    return model, lambda images: model(images)[0]


@pytest.mark.parametrize('to, library', [
    ('timm', by_timm), ('hf', by_hugging_face), ('mm', by_mmpretrain)])
def test_a_library_computes_the_same_features(mixedae, tmp_path, images, to, library):
    path, model = mixedae
    result = convert(path, tmp_path / 'out', to)
    theirs, features = library(tmp_path / 'out')
    with torch.no_grad():
        torch.testing.assert_close(
            features(images), tokens_of_mm(model, images), **CLOSE)
    if to == 'mm':  # with the decoder
        assert result.vit.left_out == [
            'backbone.segment_embed', 'head.projector.weight', 'head.projector.bias']
    else:
        assert result.num_written == len(theirs.state_dict())


def test_hugging_face_mae_computes_the_same_pixels(mixedae, tmp_path, images):
    path, model = mixedae
    convert(path, tmp_path / 'mae', 'hf-mae')
    theirs = from_hub(transformers.ViTMAEForPreTraining, tmp_path / 'mae')
    # Fixed tables are stored, and theirs have other halves: ours must survive.
    for got, want in (
        (theirs.decoder.decoder_pos_embed, model.neck.decoder_pos_embed),
        (theirs.vit.embeddings.position_embeddings, model.backbone.pos_embed)):
        assert torch.equal(got, want)

    decoder = MAEPretrainDecoder(
        num_patches=GRID**2, patch_size=PATCH, embed_dim=WIDTH,
        decoder_embed_dim=DECODER['width'], decoder_depth=DECODER['depth'],
        decoder_num_heads=DECODER['heads'])
    decoder.load_state_dict(model.neck.state_dict())
    decoder.eval()
    # A random half is seen: order of patches and mask token matter.
    noise = torch.rand(2, GRID**2, generator=torch.Generator().manual_seed(2))
    theirs.config.mask_ratio = 0.5
    restore = noise.argsort(1).argsort(1)
    with torch.no_grad():
        encoded = theirs.vit(images, noise=noise).last_hidden_state
        torch.testing.assert_close(
            theirs(images, noise=noise).logits, decoder(encoded, restore), **CLOSE)
        theirs.config.mask_ratio = 0.0
        in_order = torch.linspace(0, 1, GRID**2).expand(2, -1)
        torch.testing.assert_close(
            theirs.vit(images, noise=in_order).last_hidden_state,
            tokens_of_mm(model, images), **CLOSE)


def test_metas_mae_computes_the_same(mixedae, tmp_path, images):
    path, model = mixedae
    convert(path, tmp_path / 'mae.pth', 'mae')
    theirs = MetaMAE()
    theirs.load_state_dict(
        torch.load(tmp_path / 'mae.pth', weights_only=True)['model'])
    theirs.eval()
    convert(path, tmp_path / 'hf', 'hf-mae')
    peer = from_hub(transformers.ViTMAEForPreTraining, tmp_path / 'hf')
    restore = torch.arange(GRID**2).expand(2, -1)
    with torch.no_grad():
        tokens = theirs(images)
        torch.testing.assert_close(tokens, tokens_of_mm(model, images), **CLOSE)
        torch.testing.assert_close(
            theirs.decode(tokens[:, :5]),
            peer.decoder(tokens[:, :5], restore).logits, **CLOSE)


@pytest.mark.parametrize('to, pooling', [
    ('timm', 'mean'), ('timm', 'cls'), ('hf', 'cls')])
def test_classifiers(tmp_path, images, to, pooling):
    names = [f'animal {i}' for i in range(5)]
    model = mm_checkpoint(tmp_path / 'classifier.pth', classifier_model(pooling),
                          dataset_meta=dict(classes=names))
    convert(tmp_path / 'classifier.pth', tmp_path / to, to)
    config = json.loads((tmp_path / to / 'config.json').read_text())
    with torch.no_grad():
        if to == 'timm':
            assert config['label_names'] == names
            theirs = timm.create_model(f'local-dir:{tmp_path}/timm', pretrained=True)
            logits = theirs.eval()(images)
        else:
            assert list(config['id2label'].values()) == names
            logits = from_hub(
                transformers.ViTForImageClassification, tmp_path / to)(images).logits
        torch.testing.assert_close(logits, model(images, mode='tensor'), **CLOSE)


@pytest.mark.parametrize('pooling', ['mean', 'cls'])
def test_classifier_keeps_its_names_on_the_way_back(tmp_path, pooling):
    model = mm_checkpoint(tmp_path / 'a.pth', classifier_model(pooling))
    convert(tmp_path / 'a.pth', tmp_path / 'timm', 'timm')
    convert(tmp_path / 'timm', tmp_path / 'b.pth', 'mm')
    checkpoint = torch.load(tmp_path / 'b.pth', weights_only=True)
    config = literal_config(checkpoint['meta']['cfg'])['model']
    again = MODELS.build(dict(config, _scope_='mmpretrain'))
    again.load_state_dict(checkpoint['state_dict'])  # strict
    assert_same(checkpoint['state_dict'], model.state_dict())


# Into mixedae_mm


@pytest.mark.parametrize('arguments', [
    dict(),
    dict(num_classes=3, global_pool='token'),
    dict(num_classes=3, global_pool='avg'),
    dict(num_classes=3, global_pool='avg', fc_norm=False),
], ids=['encoder', 'cls', 'mean', 'mean of normalised tokens'])
def test_from_timm(tmp_path, images, arguments):
    theirs = timm_model(**arguments)
    folder = tmp_path / 'timm'
    folder.mkdir()
    torch.save(theirs.state_dict(), folder / 'model.pth')
    (folder / 'config.json').write_text(json.dumps(
        dict(model_args=dict(arguments, num_heads=HEADS))))
    model = PlainViT(read_vit(folder))
    with torch.no_grad():
        tokens = model(images)
        if not arguments:
            torch.testing.assert_close(tokens, theirs.forward_features(images), **CLOSE)
        else:
            torch.testing.assert_close(model.logits(tokens), theirs(images), **CLOSE)


@pytest.mark.parametrize('eps', [1e-12, 1e-6, 1e-2])
def test_from_hugging_face(tmp_path, images, eps):
    theirs = hf_model(layer_norm_eps=eps)
    theirs.save_pretrained(tmp_path / 'hf')
    convert(tmp_path / 'hf', tmp_path / 'mm.pth', 'mm')
    backbone = plain_backbone(tmp_path / 'mm.pth')
    with torch.no_grad():
        torch.testing.assert_close(
            backbone(images)[0], theirs(images).last_hidden_state, **CLOSE)


@pytest.mark.parametrize('library', ['transformers', 'meta'])
def test_mae_checkpoint_warm_starts_mixedae(tmp_path, images, library):
    """Encoder and decoder of an MAE become those of MixedAE, exactly."""
    file = tmp_path / 'model.safetensors'
    if library == 'transformers':
        theirs = hf_mae_model(layer_norm_eps=1e-6)  # which MixedAE has
        theirs.save_pretrained(tmp_path)
        theirs.config.mask_ratio = 0.0
        in_order = torch.linspace(0, 1, GRID**2).expand(2, -1)
        with torch.no_grad():
            want = theirs.vit(images, noise=in_order).last_hidden_state
        table = theirs.decoder.decoder_pos_embed
    else:
        theirs = shaken(MetaMAE())
        # With all that its training script saves.
        torch.save(dict(model=theirs.state_dict(), optimizer=dict(state={}), epoch=3,
                        args=argparse.Namespace(lr=1e-4)), file)
        with torch.no_grad():
            want = theirs(images)
        table = theirs.decoder_pos_embed
    convert(file, tmp_path / 'mm.pth', 'mm', heads=HEADS,
            decoder_heads=DECODER['heads'])
    for path in (file, tmp_path / 'mm.pth'):
        model = MODELS.build(mixedae_model()).eval()
        report = load_pretrained(model, str(path))
        assert report.new == ['backbone.segment_embed', 'head.projector']
        assert report.ignored == []
        torch.testing.assert_close(tokens_of_mm(model, images), want, **CLOSE)
        assert torch.equal(model.neck.decoder_pos_embed, table)


@pytest.mark.parametrize('to, options', [
    ('mm', dict(decoder_heads=DECODER['heads'], input_channels=4)),
    ('timm', {})])  # which has no place for a decoder, whose heads nobody asks for then
def test_metas_mae_is_compared_by_its_features_alone(tmp_path, to, options):
    torch.save(dict(model=shaken(MetaMAE()).state_dict()), tmp_path / 'mae.pth')
    result = convert(tmp_path / 'mae.pth', tmp_path / 'out', to, heads=HEADS, **options)
    assert [one.name for one in result.comparisons] == ['features']
    assert ('neck.mask_token' in result.vit.left_out) == (to == 'timm')


def test_spelling_of_transformers_5(tmp_path):
    """It writes decoder layers under a name that no other version has."""
    hf_mae_model().save_pretrained(tmp_path / 'four')
    want = read_vit(tmp_path / 'four')
    (tmp_path / 'five').mkdir()
    (tmp_path / 'four/config.json').rename(tmp_path / 'five/config.json')
    torch.save({
        name.replace('decoder.decoder_layers.', 'decoder.decoder_encoder.layer.'): v
        for name, v in want.source.tensors.items()
    }, tmp_path / 'five/pytorch_model.bin')
    result = convert(tmp_path / 'five', tmp_path / 'mm.pth', 'mm')
    assert [c.name for c in result.comparisons] == ['features', 'pixels']
    assert_same(result.vit.weights, want.weights)


# There and back


def tensors_of(path):
    """All tensors of a checkpoint, by its own names."""
    return read_vit(path, heads=HEADS, decoder_heads=DECODER['heads']).source.tensors


def assert_same(tensors, others):
    assert tensors.keys() == others.keys()
    for name, value in tensors.items():
        assert value.dtype == others[name].dtype, name
        assert torch.equal(value, others[name]), name


@pytest.mark.parametrize('to, suffix', [
    ('timm', ''), ('timm', '.safetensors'), ('timm', '.pth'), ('hf', ''),
    ('hf-mae', ''), ('mae', ''), ('mae', '.safetensors'), ('mm', '.safetensors')
])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_round_trip_is_bit_exact(mixedae, tmp_path, to, suffix, dtype):
    path, model = mixedae
    torch.save(dict(torch.load(path), state_dict=model.to(dtype).state_dict()), path)
    convert(path, tmp_path / f'there{suffix}', to)
    convert(tmp_path / f'there{suffix}', tmp_path / 'back.pth', 'mm',
            heads=HEADS, decoder_heads=DECODER['heads'])
    parts = ('backbone.', 'neck.') if to in ('hf-mae', 'mae', 'mm') else (
        'backbone.', )
    assert_same(
        torch.load(tmp_path / 'back.pth', weights_only=True)['state_dict'], {
            name: value for name, value in model.state_dict().items()
            if name.startswith(parts) and 'segment_embed' not in name
        })


@pytest.mark.parametrize('make, to', [
    (lambda path: hf_model().save_pretrained(path), 'hf'),
    (lambda path: hf_mae_model().save_pretrained(path), 'hf-mae'),
    (lambda path: torch.save(timm_model().state_dict(), path), 'timm'),
    (lambda path: torch.save(shaken(MetaMAE()).state_dict(), path), 'mae'),
], ids=['hf', 'hf-mae', 'timm', 'mae'])
def test_foreign_round_trip_is_bit_exact(tmp_path, make, to):
    make(tmp_path / 'theirs')
    convert(tmp_path / 'theirs', tmp_path / 'ours.pth', 'mm', heads=HEADS,
            decoder_heads=DECODER['heads'])
    convert(tmp_path / 'ours.pth', tmp_path / 'again', to)
    # transformers 5 has its own spelling, and reads that of 4, which is written.
    theirs = tensors_of(tmp_path / 'theirs')
    assert_same(tensors_of(tmp_path / 'again'),
                {canonical(name): value for name, value in theirs.items()})


# What is known about a ViT travels with it


def test_sizes_and_colours_travel(mixedae, tmp_path):
    path, _ = mixedae
    want = read_vit(path).description
    assert want.decoder.heads == DECODER['heads'] and want.encoder.heads == HEADS
    convert(path, tmp_path / 'hf', 'hf-mae')
    convert(tmp_path / 'hf', tmp_path / 'mm.pth', 'mm')
    assert read_vit(tmp_path / 'mm.pth').description == want


@pytest.mark.parametrize('to, suffix', [
    ('timm', ''), ('timm', '.safetensors'), ('timm', '.pth'), ('hf', ''),
    ('mae', '.pth'), ('mm', '.safetensors'), ('mm', '.pth')])
@pytest.mark.parametrize('learnt', [True, False])
def test_the_patch_grid_travels(tmp_path, to, suffix, learnt):
    """Of 2 x 8 patches, whose number is that of 4 x 4."""
    config = mixedae_model()
    config['backbone']['img_size'] = (2 * PATCH, 8 * PATCH)
    model = mm_checkpoint(tmp_path / 'wide.pth', config)
    if not learnt:
        model.init_weights()
        mm_save(model, config, tmp_path / 'wide.pth')
    there = tmp_path / f'there{suffix}'
    convert(tmp_path / 'wide.pth', there, to)
    sizes = read_vit(there, None, HEADS, DECODER['heads']).description
    assert sizes.img_size == (2 * PATCH, 8 * PATCH)
    square = MODELS.build(mixedae_model()).backbone
    report = load_pretrained(
        square, str(there / 'model.safetensors' if there.is_dir() else there))
    assert report.resized == ['pos_embed 2x8 -> 4x4']
    torch.testing.assert_close(square.pos_embed.data, sincos_position_embedding(
        (4, 4), WIDTH) if not learnt else resize_pos_embed(
            model.backbone.pos_embed.data, (2, 8), (4, 4)))


def test_config_in_a_checkpoint_is_never_executed(tmp_path):
    witness = tmp_path / 'executed'
    text = f"model = dict(img=open({str(witness)!r}, 'w'), size=-3, a=[(1, 'x')])"
    assert literal_config(text)['model'] == dict(
        img=f"open({str(witness)!r}, 'w')", size=-3, a=[(1, 'x')])
    assert not witness.exists()
    assert literal_config('this is <no> python') == {}
    assert literal_config('a = {[1]: 2}\nb = 3') == dict(a='{[1]: 2}', b=3)
    for depth in (900, 20000):
        assert literal_config(f'a = {"-" * depth}1') == {}


# Refusals


@pytest.mark.parametrize('change, message', [
    (lambda w: w.pop('blocks.1.mlp.fc2.bias'), r'lacks blocks\.1\.mlp\.fc2\.bias'),
    (lambda w: w.update({'reg_token': torch.ones(1, 4, WIDTH)}),
     r'without a place in a plain ViT: backbone\.reg_token'),
    (lambda w: w.update({'blocks.0.ls1.gamma': torch.ones(WIDTH)}),
     r'uninitialised: layers\.0\.ffn\.gamma2\.weight, layers\.1'),
    (lambda w: w['norm.bias'].fill_(torch.nan), 'NaN or infinite values.*norm.bias'),
    (lambda w: w.update({'norm.bias': torch.ones(3)}), r'ln1.bias \(3,\) for'),
    (lambda w: w.pop('patch_embed.proj.weight'), 'ViT by the names of'),
    (lambda w: [w.pop(name) for name in list(w) if name.startswith('blocks.')],
     f'lacks the layers of width {WIDTH}'),
], ids=['missing', 'unknown', 'half', 'nan', 'shape', 'no vit', 'no layers'])
def test_what_cannot_be_mapped_is_refused(tmp_path, change, message):
    weights = timm_model().state_dict()
    change(weights)
    torch.save(weights, tmp_path / 'timm.pth')
    with pytest.raises(ConfigurationError, match=message):
        PlainViT(read_vit(tmp_path / 'timm.pth', heads=HEADS))


def test_heads_are_known_given_or_assumed_aloud(tmp_path):
    path = tmp_path / 'timm.pth'
    torch.save(timm_model().state_dict(), path)
    with pytest.raises(ConfigurationError, match='how many attention heads.*--heads'):
        read_vit(path)
    with pytest.raises(ConfigurationError, match='--heads is 5, but must .* divides'):
        read_vit(path, heads=5)
    torch.save(timm_model(embed_dim=192, num_heads=3, mlp_ratio=4).state_dict(), path)
    result = convert(path, tmp_path / 'mm.pth', 'mm')
    assert result.vit.notes[0] == '3 heads, as is usual for width 192'
    assert result.comparisons[0].difference < 1e-4


@pytest.mark.parametrize('text', [
    # Where the config in a checkpoint has its backbone elsewhere.
    'model = dict(detector=dict(backbone=dict(arch="large")))',
    'model = dict(backbone=dict(arch="large"))',
    'model = dict(backbone=dict(arch="large", patch_size=0))'])
def test_heads_of_another_models_config_are_not_taken(tmp_path, mixedae, text):
    path, model = mixedae
    torch.save(dict(meta=dict(cfg=text), state_dict=model.state_dict()), path)
    with pytest.raises(ConfigurationError, match='give the number with --heads'):
        read_vit(path)
    vit = read_vit(path, heads=HEADS, decoder_heads=DECODER['heads'])
    assert vit.description.encoder.heads == HEADS


def test_other_heads_are_left_out_only_when_asked(tmp_path, mixedae):
    _, model = mixedae
    weights = model.backbone.state_dict(prefix='backbone.')
    weights['decode_head.conv_seg.weight'] = torch.ones(1)
    torch.save(dict(state_dict=weights), tmp_path / 'segmentor.pth')
    with pytest.raises(ConfigurationError, match=(
            r'decode_head\.conv_seg\.weight; --encoder-only leaves out')):
        read_vit(tmp_path / 'segmentor.pth', heads=HEADS)
    vit = read_vit(tmp_path / 'segmentor.pth', heads=HEADS, encoder_only=True)
    assert set(vit.left_out) == {
        'decode_head.conv_seg.weight', 'backbone.segment_embed'}


def with_topk():
    config = mixedae_model()
    config['backbone']['homologous_in_transfer'] = True
    return config


@pytest.mark.parametrize('make, to, message', [
    (lambda path: mm_checkpoint(path, classifier_model('mean')), 'hf',
     'LayerNorm on the mean'),
    (lambda path: mm_checkpoint(path, classifier_model('mean')), 'hf-mae',
     'needs a decoder'),
    (lambda path: mm_checkpoint(path, with_topk()), 'timm', 'homologous_in_transfer'),
    # An epsilon that timm does not have, and a wrong number of heads: the library of
    # the source computes other features.
    (lambda path: hf_model(layer_norm_eps=1e-2).save_pretrained(path), 'timm',
     'largest difference'),
    (lambda path: hf_model(num_attention_heads=8).save_pretrained(path), 'mm',
     'largest difference'),
], ids=['norm', 'decoder', 'topk', 'epsilon', 'heads'])
def test_what_a_format_cannot_hold_is_refused(tmp_path, make, to, message):
    make(tmp_path / 'source')
    with pytest.raises(ConfigurationError, match=message):
        convert(tmp_path / 'source', tmp_path / 'out', to,
                heads=HEADS if to == 'mm' else None)
    assert not (tmp_path / 'out').exists()


def test_without_the_library_it_says_what_it_did_not_do(
        mixedae, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'timm', None)
    result = convert(mixedae[0], tmp_path / 'timm', 'timm')
    assert not result.comparisons
    assert result.check == (
        f'All {6 + 12 * DEPTH} tensors read back bit for bit; features were not '
        'compared, because timm is not installed.')


@pytest.mark.parametrize('source, destination, to, message', [
    ('mixedae.pth', 'file.pth', 'hf', 'writes a folder'),
    ('mixedae.pth', 'FILE.PTH', 'hf', 'writes a folder'),
    ('mixedae.pth', 'there.pth', 'mm', 'exists already.*--overwrite'),
    ('mixedae.pth', 'missing/file.pth', 'mm', 'missing does not exist'),
    ('absent.pth', 'out', 'mm', 'does not exist'),
    ('empty', 'out', 'mm', 'holds no checkpoint'),
    ('there.pth', 'out', 'mm', 'there.pth is not a readable'),
])
def test_bad_sources_and_destinations(mixedae, tmp_path, source, destination, to,
                                      message):
    (tmp_path / 'there.pth').write_text('precious')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(ConfigurationError, match=message):
        convert(tmp_path / source, tmp_path / destination, to)
    assert (tmp_path / 'there.pth').read_text() == 'precious'
    assert not (tmp_path / 'out').exists()


def test_failed_write_leaves_nothing(mixedae, tmp_path, monkeypatch):
    path, _ = mixedae
    (tmp_path / 'out').mkdir()
    convert(path, tmp_path / 'out/model', 'timm')
    before = (tmp_path / 'out/model/model.safetensors').read_bytes()

    def disk_full(*args, **kwargs):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(torch, 'save', disk_full)
    with pytest.raises(ConfigurationError, match='No space left'):
        convert(path, tmp_path / 'out/model', 'mae', overwrite=True)
    assert [p.name for p in (tmp_path / 'out').iterdir()] == ['model']
    assert (tmp_path / 'out/model/model.safetensors').read_bytes() == before
    monkeypatch.undo()
    convert(path, tmp_path / 'out/model', 'mae', overwrite=True)
    assert (tmp_path / 'out/model/model.pth').exists()
    assert not (tmp_path / 'out/model/config.json').exists()


def test_what_is_left_out_is_said(tmp_path, monkeypatch, command, capsys):
    """Hugging Face's pooler has no place in the other libraries."""
    monkeypatch.chdir(tmp_path)
    shaken(transformers.ViTModel(transformers.ViTConfig(**hf_sizes()))
           ).save_pretrained('hf')
    assert command('convert', 'hf', 'mm', '--to', 'mm') == 0
    said = capsys.readouterr().out
    assert 'left out  2 tensors that have no place there: pooler.dense' in said
    assert 'mapped    ' in said and 'largest difference to the source' in said
