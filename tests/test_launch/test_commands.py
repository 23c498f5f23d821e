"""``python -m mixedae_mm``, and what an import brings."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS
from PIL import Image

from mixedae_mm.__main__ import GROUPS, RENAMED, find_script, main

ROOT = Path(__file__).parents[2]
MODEL = """
model = dict(
    type='MixedAE',
    backbone=dict(type='MixedAEViT', img_size=16, patch_size=4, arch=dict(
        embed_dims=8, num_layers=1, num_heads=2, feedforward_channels=8)),
    neck=dict(type='MixedAEDecoder', decoder_embed_dim=8, decoder_depth=1,
              decoder_num_heads=1),
    head=dict(type='MixedAEPretrainHead'))
train_dataloader = dict(dataset=dict(type='CustomDataset', data_root='no_images'))
"""
COMMANDS = [name for names in GROUPS.values() for name in names]


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True,
        env={'PYTHONPATH': str(ROOT), 'PATH': ''})


def test_every_command_has_a_script_that_says_what_it_does(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.partition('\nexamples\n')[0].splitlines()
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    said = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines
            if line.startswith('  ')}
    assert list(said) == COMMANDS
    assert all(text.endswith('.') for text in said.values())


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    assert main(['sampling_acuracy']) == 2
    assert 'did you mean sampling_accuracy?' in capsys.readouterr().err
    # What the project proves itself with is not for users.
    assert main(['setup_environment']) == 2


def test_modules_of_other_commands_are_not_commands(tmp_path, monkeypatch):
    """Whatever the order in which the system lists folders."""
    for folder in ('a', 'analysis_tools', 'transfer', 'z'):
        (tmp_path / 'tools' / folder).mkdir(parents=True)
        (tmp_path / 'tools' / folder / 'report.py').touch()
    monkeypatch.setattr('mixedae_mm.__main__.mim_folder', lambda: tmp_path)
    assert find_script('report') == tmp_path / 'tools/analysis_tools/report.py'


@pytest.mark.parametrize('name', ['no_such.package::train', '::train'])
def test_toolboxes_that_are_none(name, capsys):
    assert main([name]) == 2
    assert f'no command {name}' in capsys.readouterr().err


@pytest.mark.parametrize('old', RENAMED)
def test_old_names_lead_to_new_ones(old, monkeypatch, capsys):
    ran = []
    monkeypatch.setattr('mixedae_mm.register_components', lambda: None)
    monkeypatch.setattr('runpy.run_path', lambda script, run_name: ran.append(
        [script, *sys.argv[1:]]))
    monkeypatch.setattr(sys, 'argv', [])
    assert main([old, 'CONFIG', '--out', 'a']) == 0
    new, *rest = RENAMED[old]
    assert ran == [[str(find_script(new)), *rest, 'CONFIG', '--out', 'a']]
    assert f'{old} is called {" ".join([new, *rest])} now' in capsys.readouterr().err


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """A model of a thousand weights, images of two classes, and what is not right."""
    folder = tmp_path_factory.mktemp('commands')
    (folder / 'model.py').write_text(MODEL)
    (folder / 'unknown.py').write_text(
        "_base_ = 'model.py'\nmodel = dict(backbone=dict(type='MixedAEVit'))")
    (folder / 'broken.py').write_text('model = dict(')
    model = MODELS.build(Config.fromfile(folder / 'model.py').model)
    torch.save(dict(state_dict=model.state_dict()), folder / 'model.pth')
    for split in ('train', 'val'):
        for name in 'ab':
            (folder / 'no_images' / split / name).mkdir(parents=True)
            (folder / 'images' / split / name).mkdir(parents=True)
            Image.new('RGB', (20, 20), 'red').save(
                folder / 'images' / split / name / '0.png')
    return folder


@pytest.mark.parametrize('command, facts', [
    ('test model.py model.pth --interval 0', ['--interval', 'at least 1']),
    ('predict images --checkpoint model.pth --device nowhere',
     ['--device', "'nowhere'"]),
    ('predict images --checkpoint model.pth --config broken.py',
     ['line 1 of broken.py']),
    ('convert model.pth out --to hf --heads 0', ['--heads', 'at least 1']),
    ('export model.pth out.onnx --heads 0', ['--heads', 'at least 1']),
    ('extract_features no_images out --checkpoint model.pth --heads 2',
     ['No image', 'no_images']),
    ('extract_features images out --checkpoint model.pth --batch-size many',
     ['--batch-size', "'many'", 'at least 1']),
    ('extract_features images out --checkpoint model.pth --workers -1',
     ['--workers', 'at least 0']),
    ('nearest_neighbours out.parquet 0.png --count 0', ['--count', 'at least 1']),
    ('nearest_neighbours out.parquet 0.png --out sheet.xyz', ['sheet.xyz', '.png']),
    ('browse_dataset model.py', ['train_dataloader.dataset', 'no_images']),
    ('browse_dataset broken.py', ['line 1 of broken.py']),
    ('channel_statistics no_images --channels 4', ['No image', 'no_images']),
    ('channel_statistics images --channels 0', ['--channels', 'at least 1']),
    ('visualize attention model.py model.pth no_images', ['No image', 'no_images']),
    ('visualize attention mixedae_mm::mixedae_vitb_30e model.pth images',
     ['mixedae_vitb_300e']),
    ('visualize attention missing.py model.pth images',
     ['config missing.py does not exist']),
    ('visualize attention model.py model.pth images --out a.xyz', ['a.xyz', '.png']),
    ('visualize mixing unknown.py model.pth images', ['model.backbone.type',
                                                      "'MixedAEViT'"]),
    ('visualize mixing model.py model.pth images/train/a/0.png images/val/a/0.png',
     ['takes 4 images']),
    ('visualize mixing model.py model.pth images --out a.xyz', ['a.xyz', '.png']),
    ('knn_and_probe model.py model.pth no_images', ['no_images', 'dataset']),
    ('knn_and_probe model.py model.pth images --readout layer_9/mean', ['9', '1 to 1']),
    ('knn_and_probe model.py model.pth images --temperature nan', ['--temperature']),
    ('sampling_accuracy model.py model.pth images --topk 0', ['--topk']),
    ('sampling_accuracy model.py missing.pth images',
     ['checkpoint missing.pth does not exist']),
    ('sampling_accuracy model.py model.pth images --out a.xyz', ['a.xyz', '.png']),
    ('sampling_accuracy model.py model.pth images --versus model model.py model.pth',
     ['2 models', '--versus', 'model, model']),
    ('knn_and_probe model.py model.pth images --name random --versus random a b',
     ['3 models', 'random weights, random, random']),
    ('object_awareness model.py model.pth no_images', ['no_images', 'JPEGImages']),
    ('plot_logs no_images', ['no_images', 'has no log']),
    ('plot_logs no_images no_images', ['2 runs', '--names', 'no_images, no_images']),
    ('plot_logs no_images --out a.xyz', ['a.xyz', '.png']),
    ('report no_images images', ['no_images', 'no config']),
    ('report no_images images --out .', ['--out .', 'must be a file']),
    ('conversion_table --size small', ['--size', 'base']),
    ('reproduce --steps 0', ['--steps', 'at least 1']),
    ('reproduce --preset paper --images-per-second 0', ['--images-per-second']),
    ('transfer_eleven model.pth --gpus 0', ['--gpus', 'at least 1']),
    ('demo_transfer --objects 0 4', ['--objects', 'at least 1']),
    ('demo_transfer --cfg-options nothing', ['--cfg-options', 'KEY=VALUE']),
    ('benchmarks attention --batch-size 0', ['--batch-size', 'at least 1']),
    ('benchmarks step --config none.py', ['none.py', 'does not exist']),
])
def test_bad_input_of_every_command(folder, monkeypatch, capsys, command, facts):
    if 'no_images out' in command:
        pytest.importorskip('pyarrow')  # its absence would be what is said
    monkeypatch.chdir(folder)
    monkeypatch.setattr('mixedae_mm.register_components', lambda: None)
    MMLogger._instance_dict.clear()  # it writes to the stream of an earlier test
    for name in ('argv', 'path'):
        monkeypatch.setattr(sys, name, list(getattr(sys, name)))
    with pytest.raises(SystemExit) as leaving:
        main(command.split())
    printed = capsys.readouterr().err
    assert leaving.value.code == 2 and 'Traceback' not in printed
    last = printed.splitlines()[-1]
    assert 'error: ' in last and all(fact in last for fact in facts), last


def test_every_command_is_tried():
    cases = test_bad_input_of_every_command.pytestmark[0].args[1]
    assert {command.split()[0] for command, _ in cases} == set(COMMANDS) - {
        'train', 'demo'}  # which has no number, and is tried in test_boundary.py


def test_the_list_does_not_wait_for_pytorch(tmp_path):
    done = run('-X', 'importtime', '-m', 'mixedae_mm', cwd=tmp_path)
    assert done.returncode == 0 and 'train' in done.stdout
    imported = {line.rpartition('|')[2].strip() for line in done.stderr.splitlines()}
    assert 'mixedae_mm.utils.config_names' in imported
    assert not imported & {'torch', 'mmengine', 'mmpretrain', 'numpy'}


@pytest.mark.slow
def test_commands_run_from_any_directory(tmp_path):
    done = run('-m', 'mixedae_mm', 'convert', 'missing.pth', 'out', '--to', 'hf',
               cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith('error: ')
    assert 'missing.pth' in done.stderr
    # Nothing is said of packages that nobody needs.
    assert 'OneDL' not in done.stdout + done.stderr
    # A command knows components and configs of ours by name.
    done = run('-m', 'mixedae_mm', 'train', 'mixedae_mm::mixedae_vitb_folder',
               '--cfg-options', 'model.neck.type=MixedAEDecodr', 'work_dir=run',
               f'train_dataloader.dataset.data_root={ROOT}', cwd=tmp_path)
    assert done.returncode == 2 and "'MixedAEDecodr'" in done.stderr


def test_importing_is_cheap_and_quiet(tmp_path):
    """Only what a config can name, and nothing heavy that mmpretrain does not bring."""
    program = """
import json, sys
import mmpretrain, mmpretrain.datasets, mmpretrain.models, mmengine.runner
before = set(sys.modules)
print('----')
import mixedae_mm
print(json.dumps(sorted(set(sys.modules) - before)))
"""
    done = run('-c', program, cwd=tmp_path)
    said, _, imported = done.stdout.partition('----')[2].strip().rpartition('\n')
    imported = json.loads(imported)
    assert said == ''
    ours = {name.split('.')[1] for name in imported if name.startswith('mixedae_mm.')}
    assert 'models' in ours and not ours & {
        'analysis', 'apis', 'interop', 'launch'}
    foreign = {name.partition('.')[0] for name in imported} - {'mixedae_mm'}
    assert not foreign & {'mmseg', 'mmdet', 'matplotlib', 'sklearn', 'pandas',
                          'pyarrow', 'jinja2', 'scipy', 'onnx', 'timm', 'transformers',
                          'triton'}
