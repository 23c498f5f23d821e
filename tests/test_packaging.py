"""Installation: what a wheel holds, what it asks for, how environments are made."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import skimage.data
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image

import setup_environment as environments
from mixedae_mm import __version__, compat

ROOT = Path(__file__).parents[1]
STACKS = ('onedl', 'openmmlab')
MM_DISTRIBUTIONS = {name for names in compat.PROVIDERS.values() for name in names}


# ------------------------------------------------------------- requirements


@pytest.fixture(scope='module')
def metadata():
    """What setup.py tells setuptools."""
    program = ('import json, runpy, setuptools; '
               'setuptools.setup = lambda **given: print(json.dumps({key: given[key] '
               'for key in ("install_requires", "extras_require", "version", '
               '"classifiers")})); '
               'runpy.run_path("setup.py", run_name="__main__")')
    done = subprocess.run([sys.executable, '-c', program], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    return json.loads(done.stdout)


def names(requirements):
    return {canonicalize_name(Requirement(line).name) for line in requirements}


def pinned(file, python='3.11'):
    """Requirements of one of our files, by name, that hold for one Python."""
    lines = (ROOT / 'requirements' / file).read_text().splitlines()
    parsed = [Requirement(line) for line in lines
              if line and not line.startswith(('#', '-'))]
    held = [(canonicalize_name(item.name), item) for item in parsed
            if not item.marker or item.marker.evaluate(dict(python_version=python))]
    assert len(held) == len(dict(held)), f'{file} names a package twice'
    return dict(held)


def test_version_and_pythons_are_those_of_the_package_and_the_pins(metadata):
    assert metadata['version'] == __version__
    assert re.findall(r'Python :: (3\.\d+)', ' '.join(metadata['classifiers'])) == list(
        environments.PYTHONS['onedl'])
    assert set(environments.PYTHONS['openmmlab']) < set(environments.PYTHONS['onedl'])


def test_an_install_never_asks_for_an_mm_package_nor_for_torch(metadata):
    """They may be there under the other stack's name, or as a build of the user's."""
    assert not names(metadata['install_requires']) & {
        *MM_DISTRIBUTIONS, 'torch', 'torchvision', 'opencv-python'}
    assert not names(metadata['extras_require']['test']) & MM_DISTRIBUTIONS


@pytest.mark.parametrize('stack', STACKS)
def test_a_stack_asks_for_one_distribution_of_each_import_name(metadata, stack):
    place = STACKS.index(stack)
    expected = {providers[place] for providers in compat.PROVIDERS.values()}
    extras = metadata['extras_require']
    asked = names(extras[stack]) | names(extras[f'{stack}-downstream'])
    files = {**pinned(f'{stack}.txt'), **pinned(f'{stack}-downstream.txt')}
    assert asked & MM_DISTRIBUTIONS == expected
    assert set(files) & MM_DISTRIBUTIONS == expected
    # What is tested is something that the extras allow.
    for line in extras[stack] + extras[f'{stack}-downstream']:
        loose, exact = Requirement(line), files[canonicalize_name(
            Requirement(line).name)]
        for pin in exact.specifier:
            if pin.operator == '==':
                assert loose.specifier.contains(pin.version), (line, str(exact))


@pytest.mark.parametrize('stack, python', [
    (stack, python) for stack in STACKS for python in environments.PYTHONS[stack]])
def test_everything_is_pinned(stack, python):
    """Each package the environment needs has one exact version, written down."""
    constraints = pinned(f'constraints-{stack}.txt', python)
    assert all([pin.operator for pin in item.specifier] == ['==']
               for item in constraints.values())
    for file in (f'{stack}.txt', f'{stack}-downstream.txt', 'runtime.txt', 'test.txt',
                 'demo.txt', 'interop.txt'):
        for name, item in pinned(file, python).items():
            if '==' not in str(item.specifier):
                assert name in constraints, f'{name} of {file} has no pinned version'


# ------------------------------------------------------------ wheel and sdist


@pytest.fixture(scope='module')
def checkout(tmp_path_factory):
    """A copy of what an installation reads, so that building leaves no trace here."""
    copy = tmp_path_factory.mktemp('checkout')
    ignore = shutil.ignore_patterns('__pycache__', '.mim')
    for name in ('mixedae_mm', 'configs', 'tools', 'requirements', 'tests'):
        shutil.copytree(ROOT / name, copy / name, ignore=ignore)
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'model-index.yml',
                 'Makefile', 'README.md', 'LICENSE'):
        if (ROOT / name).exists():
            shutil.copy2(ROOT / name, copy)
    return copy


def build(kind, source, target):
    """Call the build backend as pip does, without its isolation."""
    target.mkdir(exist_ok=True)
    program = (f'from setuptools import build_meta; '
               f'print(build_meta.build_{kind}({str(target)!r}))')
    done = subprocess.run([sys.executable, '-c', program], cwd=source,
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return target / done.stdout.splitlines()[-1]


def contents(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return {item.filename: item.external_attr >> 16 for item in archive.infolist()}


@pytest.fixture(scope='module')
def wheel(checkout, tmp_path_factory):
    return build('wheel', checkout, tmp_path_factory.mktemp('wheel'))


@pytest.mark.slow
def test_a_wheel_carries_configs_tools_and_index_for_openmmlab(wheel):
    files = contents(wheel)
    for folder in ('configs', 'tools'):
        expected = {f'mixedae_mm/.mim/{path.relative_to(ROOT)}'
                    for path in (ROOT / folder).rglob('*')
                    if path.is_file() and path.suffix != '.pyc'}
        assert expected and expected <= set(files)
    assert 'mixedae_mm/.mim/model-index.yml' in files
    assert files['mixedae_mm/.mim/tools/dist_train.sh'] & 0o111
    sources = {str(path.relative_to(ROOT)) for path in
               (ROOT / 'mixedae_mm').rglob('*') if path.is_file()
               and not {'__pycache__', '.mim'} & set(path.parts)}
    assert sources <= set(files)
    assert not [name for name in files if name.endswith('.pyc') or
                name.startswith(('tests/', 'configs/', 'tools/'))]


@pytest.mark.slow
def test_the_source_distribution_builds_the_same_wheel(checkout, wheel, tmp_path):
    archive = build('sdist', checkout, tmp_path / 'sdist')
    shutil.unpack_archive(archive, tmp_path)
    source = tmp_path / archive.name[:-len('.tar.gz')]
    assert (source / 'tests/test_packaging.py').exists()
    assert set(contents(build('wheel', source, tmp_path / 'wheel'))) == \
        set(contents(wheel))


@pytest.mark.slow
def test_what_an_editable_install_and_an_earlier_build_leave_is_not_shipped(
        checkout, wheel, tmp_path):
    build('editable', checkout, tmp_path)
    # It finds the checkout's own files.
    mim = checkout / 'mixedae_mm/.mim'
    assert (mim / 'configs').resolve() == checkout / 'configs'
    assert (mim / 'tools/train.py').is_file() and (mim / 'model-index.yml').is_file()
    removed = checkout / 'build/lib/mixedae_mm/.mim/configs/removed_since.py'
    assert removed.parent.is_dir()
    removed.touch()
    assert contents(build('wheel', checkout, tmp_path)) == contents(wheel)


@pytest.fixture(scope='module')
def installed(wheel, tmp_path_factory):
    """The wheel in a folder of its own, and an environment that finds it there."""
    site = tmp_path_factory.mktemp('site')
    subprocess.run([sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index',
                    '--target', site, wheel], check=True, capture_output=True)
    return site, {**os.environ, 'PYTHONPATH': str(site)}


MINE = '''
_base_ = 'mixedae_mm::mixedae_vitb_folder.py'

model = dict(
    backbone=dict(arch='deit-tiny'),
    neck=dict(decoder_embed_dim=32, decoder_depth=1, decoder_num_heads=2))
train_dataloader = dict(
    batch_size=4, num_workers=0, persistent_workers=False,
    dataset=dict(data_root='photos'))
train_cfg = dict(_delete_=True, type='IterBasedTrainLoop', max_iters=2)
param_scheduler = []
log_processor = dict(by_epoch=False)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=2), logger=dict(interval=1))
custom_hooks = _base_.run_hooks
'''


# `python -m mixedae_mm COMMAND`, several in one process: importing takes longest.
COMMANDS = '''
import runpy, sys
for command in sys.stdin.read().splitlines():
    sys.argv = ['mixedae_mm', *command.split()]
    try:
        runpy.run_module('mixedae_mm', run_name='__main__', alter_sys=True)
    except SystemExit as leaving:
        print(command, 'ended with', leaving.code or 0, flush=True)
'''


@pytest.mark.slow
def test_from_a_wheel_in_an_empty_folder(installed, tmp_path):
    """Inherit our config, train two iterations, extract features, convert."""
    parquet = pytest.importorskip('pyarrow.parquet')
    site, environment = installed
    (tmp_path / 'photos').mkdir()
    for name in ('astronaut', 'coffee', 'chelsea', 'rocket'):
        image = Image.fromarray(getattr(skimage.data, name)())
        image.resize((250, 250)).save(tmp_path / f'photos/{name}.jpg')
    (tmp_path / 'mine.py').write_text(MINE)
    checkpoint = 'work_dirs/mine/iter_2.pth'
    commands = [
        'train mixedae_vitb_300.py',
        'train mine.py',
        f'extract_features photos features.parquet --checkpoint {checkpoint}',
        f'convert {checkpoint} vit --to mm',
        f'convert {checkpoint} hf --to hf']
    done = subprocess.run(
        [sys.executable, '-c', COMMANDS], cwd=tmp_path, env=environment, text=True,
        input='\n'.join(commands), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    log = done.stdout
    assert re.findall(r'ended with (\d)', log) == ['2', '0', '0', '0', '0'], log
    # A mistyped config is told the nearest that the wheel has.
    assert str(site / 'mixedae_mm/.mim/configs/mixedae_vitb_300e.py') in log
    assert re.search(r'Iter\(train\) +\[2/2\].*loss_homocon', log)
    assert parquet.read_table(tmp_path / 'features.parquet').num_rows == 4
    assert 'features 0.0e+00' in log
    # Nothing of it came from the checkout.
    assert str(ROOT) not in log and (tmp_path / 'hf/config.json').is_file()


# --------------------------------------------------------------- environments


CPU = environments.Torch('2.14.1+cu130', '', '13.0', '')
H100 = environments.Torch('2.14.1+cu130', 'sm90', '13.0', '13')


def test_a_cached_wheel_is_found_by_all_it_depends_on():
    cases = [
        ('mmcv-2.1.0', CPU, 'cp311-x'),
        ('mmcv-2.1.0', CPU, 'cp312-x'),
        ('mmcv-2.1.0', CPU._replace(version='2.15.0+cu130'), 'cp311-x'),
        ('mmcv-2.1.0', H100, 'cp311-x'),
        ('mmcv-2.1.0', H100._replace(gpu='sm80'), 'cp311-x'),
        ('onedl-mmcv-2.3.6', CPU, 'cp311-x'),
    ]
    assert len({environments.wheel_key(*case) for case in cases}) == len(cases)


def test_operators_are_for_a_gpu_only_with_its_own_compiler():
    assert H100.device == 'cu13.0-sm90'
    assert H100._replace(nvcc='').device == 'cpu'
    assert H100._replace(nvcc='12').device == 'cpu'
    assert CPU._replace(nvcc='13').device == 'cpu'


@pytest.fixture(params=STACKS)
def environment(request, tmp_path, monkeypatch):
    """An environment whose pip records its calls and builds empty wheels."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    made = environments.Environment(request.param, tmp_path)
    made.calls = []

    def pip(command, *arguments, env=None):
        made.calls.append((command, [str(item) for item in arguments], env or {}))
        target = Path(arguments[-2])
        if command == 'download':
            source = tmp_path / 'mmcv-1'
            source.mkdir(exist_ok=True)
            (source / 'setup.py').write_text("['-std=c++17']")
            shutil.make_archive(str(target / 'mmcv-1'), 'gztar', tmp_path, 'mmcv-1')
        elif command == 'wheel':
            if made.failing:
                raise environments.SetupError('the compiler failed')
            made.built = (Path(arguments[-1]) / 'setup.py').read_text()
            (target / 'mmcv-1-py3-none-any.whl').touch()

    made.failing = False
    monkeypatch.setattr(made, 'pip', pip)
    monkeypatch.setattr(made, 'ask_torch', lambda: CPU)
    monkeypatch.setattr(environments, 'check_compiler', lambda: None)
    return made


def test_mmcv_is_built_once_for_each_key(environment, monkeypatch):
    def install(with_ops):
        environment.calls.clear()
        environment.install_mmcv(with_ops)
        return {command: (set(options), variables)
                for command, options, variables in environment.calls}

    calls = install(with_ops=False)
    assert list(calls) == ['install'] and '--no-cache-dir' in calls['install'][0]
    assert not {'--no-build-isolation', '--force-reinstall'} & calls['install'][0]
    calls = install(with_ops=True)
    assert list(calls) == ['download', 'wheel', 'install']
    options, variables = calls['wheel']  # sees torch, and not pip's cache
    assert {'--no-cache-dir', '--no-build-isolation'} <= options
    assert variables['CUDA_VISIBLE_DEVICES'] == ''
    standard = {'onedl': 20, 'openmmlab': 17}[environment.stack]
    assert environment.built == f"['-std=c++{standard}']"
    assert not install(with_ops=False)  # operators do no harm
    environment.mmcv_marker.unlink()  # another environment of the same user
    assert list(install(with_ops=True)) == ['install']
    # Those for another PyTorch would not load, and pip sees no difference.
    newer = CPU._replace(version='2.15.0+cu130')
    monkeypatch.setattr(environment, 'ask_torch', lambda: newer)
    assert '--force-reinstall' in install(with_ops=False)['install'][0]
    assert not environment.mmcv_marker.exists()


def test_a_failed_build_leaves_nothing_in_the_cache(environment):
    environment.failing = True
    with pytest.raises(environments.SetupError, match='compiler failed'):
        environment.install_mmcv(with_ops=True)
    assert list(environments.cache_folder().iterdir()) == []
    assert not environment.mmcv_marker.exists()


def test_another_python_is_refused(tmp_path, monkeypatch):
    """Before anything is made, and before another's environment is written into."""
    for name in ('bin/pip', 'lib/python3.9/'):
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(environments.SetupError, match='of another Python than'):
        environments.Environment('onedl', tmp_path).create()
    monkeypatch.setattr(environments, 'THIS_PYTHON', '3.13')
    with pytest.raises(environments.SetupError, match=r'is Python 3\.13, .* 3\.11:'):
        environments.set_up('openmmlab', tmp_path / 'venv', downstream=False)
    assert not (tmp_path / 'venv').exists()


def test_a_missing_compiler_is_named_before_the_source_is_fetched(monkeypatch):
    monkeypatch.setattr(environments.shutil, 'which', lambda name: None)
    with pytest.raises(environments.SetupError, match=r'install g\+\+'):
        environments.check_compiler()


@pytest.mark.slow
def test_without_network_one_sentence_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, ROOT / 'tools/setup_environment.py', '--venv', tmp_path / 'v'],
        env={**os.environ, 'PIP_INDEX_URL': 'http://127.0.0.1:9/simple',
             'PIP_CONFIG_FILE': os.devnull, 'PIP_FIND_LINKS': '',
             'PIP_EXTRA_INDEX_URL': '', 'PIP_RETRIES': '0'},
        capture_output=True, text=True)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.match(r'error: the package index cannot be reached: .*\.$', last)
