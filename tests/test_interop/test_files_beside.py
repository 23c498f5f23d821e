"""A weight file and its folder are one model: the JSON files beside it are read."""
import json
from functools import partial

import pytest
import torch
import transformers
from foreign_checkpoints import (HEADS, WIDTH, hf_model, mixedae_model,
                                 mm_checkpoint, timm_model)
from mmengine.config import Config
from skimage.data import astronaut
from web import Server, served

import mixedae_mm
from mixedae_mm.interop.convert import convert
from mixedae_mm.interop.reading import read_vit
from mixedae_mm.models.checkpoint_configs import mm_facts
from mixedae_mm.models.mixedae_data_preprocessor import IMAGENET_MEAN
from mixedae_mm.utils.errors import ConfigurationError


def hugging_face(folder, safe=True):
    """Six heads, a large epsilon, a dark mean: nothing that is usual."""
    hf_model(num_attention_heads=6, layer_norm_eps=1e-3).save_pretrained(folder)
    (folder / 'preprocessor_config.json').write_text(json.dumps(
        dict(image_mean=[0.1] * 3, image_std=[0.3] * 3)))
    if safe:
        return folder / 'model.safetensors'
    torch.save(read_vit(folder).source.tensors, folder / 'pytorch_model.bin')
    (folder / 'model.safetensors').unlink()
    return folder / 'pytorch_model.bin'


def timm(folder):
    mm_checkpoint(folder.with_suffix('.pth'), mixedae_model())
    convert(folder.with_suffix('.pth'), folder, 'timm')
    return folder / 'model.safetensors'


@pytest.mark.parametrize('make', [
    hugging_face, partial(hugging_face, safe=False), timm],
    ids=['safetensors', 'bin', 'timm'])
def test_by_file_as_by_folder(tmp_path, make):
    file = make(tmp_path / 'model')
    by_folder, by_file = mixedae_mm.load(file.parent), mixedae_mm.load(file)
    assert by_file.description == by_folder.description
    assert torch.equal(by_file.features(astronaut()), by_folder.features(astronaut()))
    again = [convert(source, tmp_path / f'{i}.pth', 'mm').vit
             for i, source in enumerate((file.parent, file))]
    assert again[0].description == again[1].description == by_file.description
    assert again[1].notes == []


def test_what_the_files_say_and_what_is_assumed_without_them(tmp_path, warned):
    file = hugging_face(tmp_path / 'model')
    sizes = mixedae_mm.load(file).description
    assert (sizes.encoder.heads, sizes.norm_eps) == (6, 1e-3)
    assert sizes.mean == pytest.approx((25.5, ) * 3)
    assert sizes.std == pytest.approx((76.5, ) * 3)
    assert warned == []
    for name in ('config.json', 'preprocessor_config.json'):
        (file.parent / name).unlink()
    sizes = mixedae_mm.load(file, heads=6).description
    assert sizes.norm_eps == 1e-12  # the library's own
    assert len(warned) == 1 and str(file) in warned[0]
    for assumed in ('epsilon 1e-12', 'mean', 'standard deviation', 'square'):
        assert assumed in warned[0]


def test_everything_of_pre_training_is_known(tmp_path, warned):
    config = mixedae_model()
    del config['data_preprocessor']['mean']  # ImageNet's are MixedAE's own
    mm_checkpoint(tmp_path / 'mixedae.pth', config)
    mixedae_mm.load(tmp_path / 'mixedae.pth')
    assert warned == []


@pytest.mark.parametrize('own, expected', [
    (dict(mix_ratio=.5), IMAGENET_MEAN), ({}, (1., 2., 3.))])
def test_the_models_preprocessor_counts_as_a_whole(tmp_path, own, expected):
    config = Config(dict(
        model=dict(mixedae_model(), data_preprocessor=own, head=dict(norm_pix=1)),
        data_preprocessor=dict(mean=[1, 2, 3], std=[4, 5, 6])))
    facts = mm_facts(dict(meta=dict(cfg=config.pretty_text)), 'a.pth')
    assert facts['mean'] == tuple(expected)
    assert facts['norm_pix'] is True


@pytest.mark.parametrize('change', [
    dict(hidden_size=2 * WIDTH), dict(num_hidden_layers=7), dict(patch_size=8),
    dict(model_type=None, hidden_size=None)], ids=lambda change: next(iter(change)))
def test_the_config_of_another_model(tmp_path, warned, change):
    file = hugging_face(tmp_path / 'model')
    config = json.loads((file.parent / 'config.json').read_text())
    config = {key: value for key, value in {**config, **change}.items()
              if value is not None}
    (file.parent / 'config.json').write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match='config.json of .* another model'):
        mixedae_mm.load(file.parent, heads=6)
    assert mixedae_mm.load(file, heads=6).description.norm_eps == 1e-12
    assert ['not used' in sentence for sentence in warned].count(True) == 1


def test_a_torn_json_file(tmp_path, warned):
    file = hugging_face(tmp_path / 'model')
    (file.parent / 'config.json').write_text('{"hidden_size": ')
    with pytest.raises(ConfigurationError, match='config.json cannot be read'):
        mixedae_mm.load(file.parent)
    with pytest.raises(ConfigurationError, match='how many attention heads'):
        mixedae_mm.load(file)
    assert len(warned) == 1 and 'config.json cannot be read' in warned[0]


@pytest.mark.parametrize('file, key, value, allowed', [
    ('config', 'num_attention_heads', '2', 'integer of at least 1'),
    ('config', 'image_size', [64, 64, 3], 'one or two numbers of pixels'),
    ('config', 'layer_norm_eps', '1e-3', 'above 0'),
    ('config', 'id2label', dict(a='ant'), 'list of names'),
    ('preprocessor_config', 'image_mean', ['0.5'] * 3, 'numbers of the colours'),
    ('preprocessor_config', 'rescale_factor', 0, 'above 0'),
    ('preprocessor_config', 'do_normalize', 'no', 'True or False')])
def test_a_value_that_is_not_allowed(tmp_path, file, key, value, allowed):
    folder = hugging_face(tmp_path / 'model').parent
    content = json.loads((folder / f'{file}.json').read_text())
    (folder / f'{file}.json').write_text(json.dumps(dict(content, **{key: value})))
    with pytest.raises(ConfigurationError) as error:
        mixedae_mm.load(folder)
    for fact in (f'{file}.json', str(folder), key, repr(value), allowed):
        assert fact in str(error.value)


@pytest.mark.parametrize('options', [
    dict(do_rescale=False, image_mean=[100.] * 3, image_std=[50.] * 3),
    dict(do_rescale=False, do_normalize=False), dict(do_normalize=False),
    dict(rescale_factor=1 / 127.5, image_mean=[1.] * 3, image_std=[1.] * 3)],
    ids=lambda options: ' '.join(options))
def test_pixels_are_scaled_as_the_files_say(tmp_path, options):
    folder = hugging_face(tmp_path / 'model').parent
    options = dict(dict(image_mean=[.1] * 3, image_std=[.3] * 3), **options)
    (folder / 'preprocessor_config.json').write_text(json.dumps(options))
    processor = transformers.BitImageProcessor(
        do_resize=False, do_center_crop=False, **options)
    image = torch.from_numpy(astronaut()).permute(2, 0, 1)  # (3, H, W)
    theirs = processor(image, return_tensors='pt').pixel_values[0].float()
    ours = mixedae_mm.load(folder).preprocessing.normalize(image)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_config_of_a_model_with_another_activation(tmp_path):
    hf_model(hidden_act='quick_gelu').save_pretrained(tmp_path / 'model')
    with pytest.raises(ConfigurationError, match='quick_gelu'):
        mixedae_mm.load(tmp_path / 'model/model.safetensors')


def test_a_timm_folder_of_the_hub(tmp_path):
    """Its config names the architecture and says no sizes."""
    (tmp_path / 'model').mkdir()
    torch.save(timm_model().state_dict(), tmp_path / 'model/pytorch_model.bin')
    (tmp_path / 'model/config.json').write_text(json.dumps(dict(
        architecture='vit_base_patch16_224', num_features=WIDTH,
        pretrained_cfg=dict(mean=[0.5] * 3, std=[0.5] * 3, input_size=[3, 64, 64]))))
    for path in ('model', 'model/pytorch_model.bin'):
        sizes = mixedae_mm.load(tmp_path / path, heads=HEADS).description
        assert sizes.mean == sizes.std == (127.5, ) * 3


@pytest.mark.parametrize('safe', [True, False], ids=['safetensors', 'bin'])
def test_by_address(tmp_path, monkeypatch, safe):
    """As a hub writes it, with what to do with the file behind its name."""
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'cache'))
    file = hugging_face(tmp_path / 'model', safe)
    with served() as address:
        for path in file.parent.iterdir():
            Server.content[f'/{path.name}'] = path.read_bytes()
        encoder = mixedae_mm.load(f'{address}/{file.name}?download=true')
    assert encoder.description == mixedae_mm.load(file).description
