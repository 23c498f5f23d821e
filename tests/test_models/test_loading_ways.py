"""Whatever way weights come in, they are loaded completely or refused."""
import copy

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.model import PretrainedInit
from mmengine.registry import MODELS
from mmengine.runner import Runner, load_checkpoint
from PIL import Image

from mixedae_mm.launch import test as testing
from mixedae_mm.launch import train as training
from mixedae_mm.models.checkpoint_loading import load_source
from mixedae_mm.models.checkpoint_source import read_source
from mixedae_mm.utils.errors import ConfigurationError
import small_vit
from small_vit import ARCH, mixedae

CONFIG = f'''
default_scope = 'mmpretrain'
custom_imports = dict(imports=['mixedae_mm'])
backbone = dict(type='MixedAEViT', arch={ARCH}, img_size=32, patch_size=8)
train_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=True))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.))
train_cfg = dict(by_epoch=False, max_iters=1)
default_hooks = dict(checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=1))
'''
PRETRAINING = CONFIG + f'''
model = {small_vit.config()}
train_dataloader['dataset'] = dict(
    type='UnlabelledImageFolder', data_root='images',
    pipeline=[dict(type='LoadImageTensor'),
              dict(type='TensorRandomResizedCrop', size=32), dict(type='PackInputs')])
'''
CLASSIFICATION = CONFIG + '''
model = dict(
    type='ImageClassifier',
    backbone=dict(backbone, out_type='avg_featmap', final_norm=False),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=32))
data_preprocessor = dict(num_classes=2)
dataset = dict(type='CustomDataset', data_root='images', pipeline=[
    dict(type='LoadImageFromFile'), dict(type='Resize', scale=32),
    dict(type='PackInputs')])
train_dataloader['dataset'] = dataset
test_dataloader = dict(
    batch_size=4, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dataset)
test_cfg = dict()
test_evaluator = dict(type='Accuracy', topk=1)
'''


@pytest.fixture
def project(tmp_path, monkeypatch):
    for i in range(4):
        folder = tmp_path / 'images' / 'ab'[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 40), (i, 9 * i, 90)).save(folder / f'{i}.png')
    (tmp_path / 'pretrain.py').write_text(PRETRAINING)
    (tmp_path / 'classify.py').write_text(CLASSIFICATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def save(weights, name='weights.pth', **meta):
    torch.save(dict(state_dict=weights, meta=meta), name)
    return name


def command_error(capsys, command, *arguments):
    """What a command says as it refuses."""
    capsys.readouterr()
    assert command([*arguments]) == 2
    return capsys.readouterr().err.splitlines()[-1]


def plain_runner(path):
    config = Config.fromfile('pretrain.py')
    config.update(load_from=path, work_dir='plain')
    Runner.from_cfg(config).train()


def initialized(path, part='model', **init_cfg):
    """A MixedAE with an ``init_cfg`` that names a file."""
    config = Config.fromfile('pretrain.py').model
    node = config if part == 'model' else config[part]
    entry = dict(dict(type='Pretrained', checkpoint=path), **init_cfg)
    node.init_cfg = [dict(type='Xavier', layer='Linear'), entry]
    model = MODELS.build(config)
    model.init_weights()
    return model


WAYS = {
    'plain Runner, load_from': plain_runner,
    "mmengine's load_checkpoint": lambda path: load_checkpoint(mixedae(), path),
    'init_cfg of the model': initialized,
    'init_cfg of the model, a class': lambda path: initialized(
        path, type=PretrainedInit),
    'init_cfg of the part': lambda path: [
        initialized(path, part) for part in ('backbone', 'neck', 'head')],
    'init_cfg of the part, with prefix': lambda path: [
        initialized(path, part, prefix=part) for part in ('backbone', 'neck', 'head')],
}


@pytest.mark.parametrize('lost', [
    'backbone.layers.2.ln1.weight', 'neck.mask_token', 'neck.decoder_pred.bias',
    'head.projector.bias'])
@pytest.mark.parametrize('way', WAYS)
def test_a_lost_tensor_is_named(project, way, lost):
    weights = mixedae().state_dict()
    del weights[lost]
    with pytest.raises(ConfigurationError, match=lost.partition('.')[2]):
        WAYS[way](save(weights))


@pytest.mark.parametrize('way', WAYS)
def test_another_width_is_refused(project, way):
    weights = {name: value.repeat_interleave(2, -1) if value.ndim else value
               for name, value in mixedae().state_dict().items()}
    with pytest.raises(ConfigurationError):
        WAYS[way](save(weights))


@pytest.mark.parametrize('options', [{}, dict(prefix='neck.')])
def test_a_part_keeps_what_was_loaded(project, options):
    """Mask token and positions of the decoder, and the head's projector."""
    weights = mixedae().state_dict()
    path = save(weights)
    for part in ('backbone', 'neck', 'head', 'model'):
        own = initialized(
            path, part, **(options if part == 'neck' else {})).state_dict()
        for name, value in weights.items():
            if part in ('model', name.partition('.')[0]):
                assert torch.equal(own[name], value), name


@pytest.mark.parametrize('entry, value', [
    (None, 'random'), (dict(type='Constant', layer='Linear', val=.5), .5)])
def test_initialisation_without_a_file(project, entry, value):
    """Positions are there, and what init_cfg asks for comes on top."""
    config = Config.fromfile('pretrain.py').model
    config.backbone.init_cfg = entry
    model = MODELS.build(config)
    model.init_weights()
    vit = model.backbone
    assert vit.pos_embed.abs().sum() > 0 and vit.segment_embed.std() > 0
    weight = vit.layers[0].attn.qkv.weight
    assert weight.std() > 0 if value == 'random' else weight.eq(value).all()


def test_the_train_command_says_what_it_loads(project, capsys):
    model = mixedae()
    path = save(model.state_dict())
    assert training.main(['pretrain.py', '--cfg-options', f'load_from={path}']) == 0
    text = capsys.readouterr().out
    total = len(model.state_dict())
    assert f'{path}: loaded {total} of {total} model tensors' in text
    trained = torch.load('work_dirs/pretrain/iter_1.pth', weights_only=False)
    assert all(torch.equal(trained['state_dict'][name], value)
               for name, value in model.state_dict().items())

    weights = copy.copy(model.state_dict())
    del weights['backbone.layers.2.ln1.weight']
    save(weights, 'lost.pth')
    said = command_error(
        capsys, training.main, 'pretrain.py', '--cfg-options', 'load_from=lost.pth')
    assert 'lost.pth' in said and 'layers.2.ln1.weight' in said
    torch.save({'fc.weight': torch.ones(2)}, 'other.pth')
    assert 'other.pth' in command_error(
        capsys, training.main, 'pretrain.py', '--cfg-options', 'load_from=other.pth')
    # A checkpoint of another model is not resumed from either.
    torch.save(dict(trained, state_dict={
        name: value for name, value in trained['state_dict'].items()
        if not name.startswith('head.')}), 'resumed.pth')
    assert 'head.projector' in command_error(
        capsys, training.main, 'pretrain.py', '--resume', 'resumed.pth',
        '--cfg-options', 'train_cfg.max_iters=2')


def test_fine_tuning_may_have_a_new_head_and_a_test_may_not(project, capsys):
    path = save(mixedae().state_dict())
    assert training.main(['classify.py', '--cfg-options', f'load_from={path}']) == 0
    text = capsys.readouterr().out
    assert 'new, not in the checkpoint: backbone.ln2, head.fc' in text
    said = command_error(capsys, testing.main, 'classify.py', path)
    assert path in said and 'head.fc.weight' in said
    assert testing.main(['classify.py', 'work_dirs/classify/iter_1.pth']) == 0
    assert 'accuracy/top1' in capsys.readouterr().out

    # Other classes: a new last layer in training, which is said.
    (project / 'images/c').mkdir()
    Image.new('RGB', (40, 40)).save(project / 'images/c/4.png')
    arguments = ['classify.py', '--cfg-options', 'model.head.num_classes=3',
                 'data_preprocessor.num_classes=3',
                 'load_from=work_dirs/classify/iter_1.pth', 'work_dir=three']
    assert training.main(arguments) == 0
    assert 'head.fc.weight (2, 32) instead of (3, 32)' in capsys.readouterr().out


def test_analysis_refuses_what_does_not_fit(project):
    from mixedae_mm.analysis.loading import load_model
    weights = mixedae().state_dict()
    model = load_model('pretrain.py', save(weights), 'cpu')
    assert all(torch.equal(value, weights[name])
               for name, value in model.state_dict().items())
    for name in ('head.projector.weight', 'backbone.segment_embed'):
        fewer = {n: v for n, v in weights.items() if n != name}
        with pytest.raises(ConfigurationError, match=name.partition('.')[2]):
            load_model('pretrain.py', save(fewer), 'cpu')
    for name in ('head.other', 'other.weight'):
        with pytest.raises(ConfigurationError, match='other'):
            load_model('pretrain.py', save({**weights, name: torch.ones(1)}), 'cpu')


def test_others_models_are_loaded_as_mmengine_does(tmp_path, recwarn):
    """Only what contains a part of MixedAE is ours to check."""
    linear = MODELS.build(dict(
        type='mmpretrain.LinearClsHead', num_classes=2, in_channels=4,
        init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'a.pth'))))
    torch.save(dict(state_dict={'fc.bias': torch.tensor([1., 2.])}), tmp_path / 'a.pth')
    linear.init_weights()
    assert np.array_equal(linear.fc.bias.detach(), [1., 2.])


@pytest.mark.parametrize('wrapper', ['model.', '_orig_mod.module.', 'averaged.'])
def test_a_model_below_another_name_is_found(project, wrapper):
    saved = mixedae().state_dict()
    weights = {wrapper + name: value for name, value in saved.items()}
    source = read_source(save(dict(weights, steps=torch.tensor(5))))
    model = mixedae()
    for parameter in model.parameters():
        parameter.data.zero_()
    report = load_source(model, source)
    assert report.num_loaded == report.num_total and 'steps' in report.ignored
    assert all(torch.equal(value, saved[name])
               for name, value in model.state_dict().items())


def test_the_grid_is_found_below_another_name(project):
    source = mixedae(img_size=(16, 64))  # positions were trained
    weights = torch.nn.ModuleDict(dict(model=source)).state_dict()
    model = mixedae()
    report = load_source(model, read_source(save(weights)))
    assert 'pos_embed 2x8 -> 4x4' in report.resized


def test_mmpretrains_vit_takes_pre_training_or_says_why_not(project):
    """The checkpoint is ours, so that the loading is, too."""
    weights = mixedae().state_dict()
    vit = MODELS.build(dict(
        type='mmpretrain.VisionTransformer', arch=ARCH, img_size=32, patch_size=8,
        init_cfg=dict(type='Pretrained', checkpoint=save(weights))))
    vit.init_weights()  # without a prefix
    assert all(torch.equal(value, weights[f'backbone.{name}'])
               for name, value in vit.state_dict().items())
    weights.pop('backbone.layers.2.ln1.weight')
    save(weights)
    vit._is_init = False
    with pytest.raises(ConfigurationError, match='layers.2.ln1.weight'):
        vit.init_weights()


def test_what_a_resumed_file_lacks_is_said(project, capsys):
    path = save(mixedae().state_dict())  # weights alone
    said = command_error(capsys, training.main, 'pretrain.py', '--resume', path)
    assert path in said and 'load_from without --resume' in said
    assert training.main(['pretrain.py']) == 0
    whole = torch.load('work_dirs/pretrain/iter_1.pth', weights_only=False)
    del whole['optimizer']
    torch.save(whole, 'best.pth')
    arguments = ['--cfg-options', 'train_cfg.max_iters=2', '--resume', 'best.pth']
    assert training.main(['pretrain.py', *arguments]) == 0
    said = ''.join(capsys.readouterr())
    assert 'best.pth has no state of the optimizer' in said


@pytest.mark.parametrize('value, said', [
    ("'mae'", "init_cfg is 'mae', but must be a dict with a type"),
    ('dict()', 'init_cfg is {}, but must be a dict with a type'),
    ("dict(type='NoSuchThing')", 'NoSuchThing')])
def test_an_init_cfg_that_names_nothing_is_refused(project, capsys, value, said):
    with open('pretrain.py', 'a') as file:
        file.write(f"model['backbone']['init_cfg'] = {value}\n")
    assert said in command_error(capsys, training.main, 'pretrain.py')
