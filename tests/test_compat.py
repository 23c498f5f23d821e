"""Missing and doubled packages are told in one sentence, before anything else."""

import os
import subprocess
import sys
import warnings
from importlib import metadata
from pathlib import Path

import pytest
from mmengine.dataset import BaseDataset

from mixedae_mm import compat

ROOT = Path(__file__).parents[1]


ONEDL = ['onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain']
CLASSIC = ['mmengine', 'mmcv', 'mmpretrain']
TORCH = {'torch', 'torchvision'}


@pytest.fixture
def packages(monkeypatch):
    """Pretend that exactly these distributions and import names are there."""

    def pretend(distributions, importable=None):
        provided = {name for name, dists in compat.PROVIDERS.items()
                    if set(dists) & set(distributions)}
        there = provided | TORCH if importable is None else importable

        def version(name):
            if name not in distributions:
                raise metadata.PackageNotFoundError(name)
            return '1.0'

        monkeypatch.setattr(compat.metadata, 'version', version)
        monkeypatch.setattr(compat, 'is_available', lambda name: name in there)

    return pretend


@pytest.mark.parametrize('stack, mmdet', [
    (ONEDL, 'onedl-mmdetection'), (CLASSIC, 'mmdet'),
    (['mmengine', 'mmcv-lite', 'mmpretrain'], 'mmdet')])
def test_either_stack_without_mmseg_and_mmdet_is_accepted(packages, stack, mmdet):
    compat.check_dependencies()  # of the tests themselves
    packages(stack)
    compat.check_dependencies()
    assert compat.install_command('mmdet') == f'pip install {mmdet}'


@pytest.mark.parametrize('installed, importable, facts', [
    (ONEDL[:2], None, ['needs mmpretrain,', '`pip install onedl-mmpretrain`']),
    (ONEDL[::2], None, ['needs mmcv,', '`pip install onedl-mmcv`']),
    (CLASSIC[:2], None, ['`pip install mmpretrain`']),
    ([], None, ['`pip install onedl-mmengine onedl-mmcv onedl-mmpretrain`']),
    ([*ONEDL, 'mmengine'], None, [
        'mmengine from onedl-mmengine and mmengine',
        '`pip uninstall -y onedl-mmengine mmengine && pip install onedl-mmengine`']),
    ([*CLASSIC, 'mmsegmentation', 'onedl-mmsegmentation', 'mmcv-lite'], None, [
        'mmcv from mmcv and mmcv-lite',
        'mmseg from onedl-mmsegmentation and mmsegmentation']),
    # What is left after uninstalling only one of two.
    (ONEDL, TORCH | {'mmcv', 'mmpretrain'}, [
        '`pip install --force-reinstall --no-deps onedl-mmengine`'])])
def test_missing_and_doubled_packages_are_named_with_the_way_out(
        packages, installed, importable, facts):
    packages(installed, importable)
    with pytest.raises(ImportError) as caught:
        compat.check_dependencies()
    message = str(caught.value)
    assert '\n' not in message and message.endswith('`.')
    assert all(fact in message for fact in facts), message


def import_package(*flags, then='', **environment):
    return subprocess.run(
        [sys.executable, *flags, '-c',
         f'import sys; sys.path.insert(0, {str(ROOT)!r}); import mixedae_mm\n{then}'],
        env={**os.environ, **environment}, capture_output=True, text=True)


def pretend_installed(distribution, folder):
    """Add what an installer records of version 9.9.9."""
    info = folder / f'{distribution.replace("-", "_")}-9.9.9.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {distribution}\n'
                                   'Version: 9.9.9\n')


def test_import_beside_a_second_distribution_says_so(tmp_path):
    ours, = compat.installed_providers('mmengine')
    pretend_installed('mmengine' if ours.startswith('onedl') else 'onedl-mmengine',
                      tmp_path)
    done = import_package(PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith('ImportError') and 'installed twice' in last


def test_import_beside_transformers_that_mmpretrain_cannot_stand(tmp_path):
    """Only who builds one of mmpretrain's language models is told."""
    pretend_installed('transformers', tmp_path)
    (tmp_path / 'transformers.py').write_text('raise ImportError("too new")')
    done = import_package(PYTHONPATH=str(tmp_path), then=(
        'from mmpretrain.registry import MODELS\n'
        'assert MODELS.build(dict(type="VisionTransformer", arch="deit-tiny"))\n'
        'MODELS.build(dict(type="BlipCaption", model=1))'))
    last = done.stderr.splitlines()[-1]
    assert last.startswith('ImportError') and 'BlipCaption of' in last
    assert 'transformers 9.9.9' in last and '`pip install "transformers<' in last


def test_import_beside_mmpretrain_without_a_distribution(monkeypatch):
    """Such as a checkout on PYTHONPATH."""
    monkeypatch.setattr(compat, 'installed_providers', lambda name: [])
    monkeypatch.setattr(compat, '_version', lambda name: '1.0')
    monkeypatch.delitem(sys.modules, 'mmpretrain.utils.dependency', raising=False)
    compat.leave_out_language_models()


def test_import_without_any_package_names_them_all():
    done = import_package('-S', '-E')  # no site-packages
    last = done.stderr.splitlines()[-1]
    assert last.startswith('ImportError: mixedae_mm needs torch')
    assert all(name in last for name in compat.REQUIRED)


def test_the_check_imports_nothing():
    program = ('import sys; from importlib.util import spec_from_file_location, '
               'module_from_spec; '
               f'spec = spec_from_file_location("c", {compat.__file__!r}); '
               'c = module_from_spec(spec); spec.loader.exec_module(c); '
               'c.check_dependencies(); '
               'print([n for n in c.REQUIRED if n in sys.modules])')
    done = subprocess.run([sys.executable, '-c', program], capture_output=True,
                          text=True, check=True)
    assert done.stdout.strip() == '[]'


def test_only_the_misleading_warning_is_dropped():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        compat.drop_misleading_warning()
        warnings.warn('Fail to import ``MultiScaleDeformableAttention`` from '
                      '``mmcv.ops.multi_scale_deform_attn``, You should install')
        warnings.warn('Fail to import something else')
    assert [str(w.message) for w in caught] == ['Fail to import something else']


def test_subsets_share_no_copies():
    """mmengine 0.10 gives the second subset the first one's transforms."""
    dataset = BaseDataset(pipeline=[dict(type='LoadImageTensor')], lazy_init=True)
    dataset.data_list = [dict(), dict()]
    dataset.serialize_data, dataset._fully_initialized = False, True
    subsets = [dataset.get_subset([index]) for index in (0, 1)]
    owners = [dataset, *subsets]
    assert len({id(owner.pipeline) for owner in owners}) == 3
    assert len({id(owner.pipeline.transforms[0]) for owner in owners}) == 3


@pytest.mark.parametrize('script, silent', [('tools/train.py', True), ('x.py', False)])
def test_ctrl_c_while_packages_are_imported(script, silent):
    done = subprocess.run(
        [sys.executable, '-c', 'import sys\n'
         'class Pressed:\n'
         '    def find_spec(self, name, *rest):\n'
         '        if name == "mmengine": raise KeyboardInterrupt\n'
         'sys.meta_path.insert(0, Pressed())\n'
         f'sys.argv = [{str(ROOT / script)!r}]\n'
         'import mixedae_mm'], cwd=ROOT, capture_output=True, text=True)
    assert (done.stderr == '') == silent and done.returncode in (130, -2)
    assert silent == (done.returncode == 130)
