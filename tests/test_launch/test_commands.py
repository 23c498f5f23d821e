"""``python -m mixedae_mm``, and what an import brings."""
import json
import subprocess
import sys
from pathlib import Path

import pytest

from mixedae_mm.__main__ import GROUPS, RENAMED, find_script, main

ROOT = Path(__file__).parents[2]
COMMANDS = [name for names in GROUPS.values() for name in names]


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, capture_output=True, text=True,
        env={'PYTHONPATH': str(ROOT), 'PATH': ''})


def test_every_command_has_a_script_that_says_what_it_does(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line in GROUPS] == list(GROUPS)
    said = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines
            if line.startswith('  ') and '::' not in line}
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
    assert not foreign & {'matplotlib', 'sklearn', 'pandas', 'pyarrow', 'jinja2',
                          'scipy', 'onnx', 'timm', 'transformers', 'triton'}


def test_nothing_is_said_of_packages_that_nobody_needs(tmp_path):
    done = run('-c', 'import mixedae_mm', cwd=tmp_path)
    assert 'OneDL' not in done.stdout + done.stderr
