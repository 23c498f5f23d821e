"""Our configs under the names that OpenMMLab's tools use."""
import subprocess
import sys
from pathlib import Path

import mmpretrain
import pytest
from mmengine.config import Config
from mmpretrain.apis.model import ModelHub

import mixedae_mm
from mixedae_mm.utils import config_names
from mixedae_mm.utils.errors import ConfigurationError

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / 'configs'
OURS = [path.relative_to(ROOT) for path in sorted(CONFIGS.rglob('*.py'))
        if not {'_base_', 'demo', 'own_labels', 'reproduce'} & set(path.parts)]


@pytest.mark.parametrize('base', [
    "'mixedae_mm::mixedae_vitb_300e.py'",
    "['mixedae_mm::mixedae_vitb_300e.py']",
    "'mixedae_mm::mixedae_vitb_300e'",
])
def test_a_config_inherits_ours(tmp_path, base):
    (tmp_path / 'mine.py').write_text(
        f'_base_ = {base}\ntrain_cfg = dict(max_epochs=7)\n')
    config = Config.fromfile(tmp_path / 'mine.py')
    ours = Config.fromfile(CONFIGS / 'mixedae_vitb_300e.py')
    assert config.train_cfg.max_epochs == 7
    ours.train_cfg.max_epochs = 7
    # No scope of our own creeps in, in which mmpretrain's types are unknown.
    assert config.to_dict() == ours.to_dict()


def test_other_packages_are_still_found(tmp_path):
    config = Config.fromfile(
        mixedae_mm.config_path('classification/finetune_vitb_100e_in1k'))
    assert config.model.type == 'ImageClassifier'  # mmpretrain's base
    (tmp_path / 'mine.py').write_text("_base_ = 'mmwhatever::a/b.py'\n")
    with pytest.raises(AssertionError, match='mmwhatever'):
        Config.fromfile(tmp_path / 'mine.py')


@pytest.mark.parametrize('name, hint', [
    ('mixedae_mm::mixedae_vitb_30e.py', 'did you mean .*mixedae_vitb_300e.py'),
    ('mixedae_mm::finetune_vitb_100e_in1k', 'did you mean .*classification/'),
    ('mixedae_mm::/etc/passwd', 'no config'),
])
def test_a_name_that_is_none(tmp_path, name, hint):
    with pytest.raises(ConfigurationError, match=hint):
        mixedae_mm.config_path(name)
    (tmp_path / 'mine.py').write_text(f'_base_ = {name!r}\n')
    with pytest.raises(ConfigurationError, match=hint):
        Config.fromfile(tmp_path / 'mine.py')


def test_registering_again_changes_nothing(tmp_path, monkeypatch):
    for name in ('_get_cfg_path', 'fromfile', '_substitute_env_variables'):
        monkeypatch.setattr(Config, name, getattr(Config, name))
    before = dict(ModelHub._models_dict)
    config_names.register(mixedae_mm.complete_config)
    assert ModelHub._models_dict == before
    (tmp_path / 'mine.py').write_text("_base_ = 'mixedae_mm::mixedae_vitb_300e'\n")
    assert Config.fromfile(tmp_path / 'mine.py').model.type == 'MixedAE'


@pytest.mark.slow
def test_without_an_import_before_it_the_expression_works(tmp_path):
    """As in a command of another toolbox."""
    (tmp_path / 'mine.py').write_text(
        "_base_ = __import__('mixedae_mm').config_path('mixedae_vitb_300e')\n")
    program = ('from mmengine.config import Config; '
               'print(Config.fromfile("mine.py").model.type)')
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=tmp_path, capture_output=True, text=True,
        env={'PYTHONPATH': str(ROOT), 'PATH': ''})
    assert done.stdout.split()[-1:] == ['MixedAE'], done.stderr


# --------------------------------------------------------------- the model index


def models():
    return {name: model for name, model in ModelHub._models_dict.items()
            if Path(str(model.config)).is_relative_to(CONFIGS)}


def test_every_config_is_in_the_index_once():
    listed = [Path(model.config).relative_to(ROOT) for model in models().values()]
    assert sorted(listed) == OURS


@pytest.mark.slow
@pytest.mark.parametrize('path', OURS, ids=str)
def test_what_the_index_says_is_what_the_config_says(path):
    model = next(model for model in models().values()
                 if Path(model.config) == ROOT / path)
    config = Config.fromfile(ROOT / path)
    assert path.stem in model.name and model.name == model.name.lower()
    facts = model.metadata.data
    if 'Epochs' in facts:
        assert config.train_cfg.max_epochs == facts['Epochs']
    if 'Iterations' in facts:
        assert config.train_cfg.max_iters == facts['Iterations']
    if 'Batch Size' in facts:
        assert config.auto_scale_lr.base_batch_size == facts['Batch Size'] or \
            config.train_dataloader.batch_size * 8 == facts['Batch Size']
    # Nothing is published, nothing measured: nothing is claimed.
    assert model.weights is None and not model.results


@pytest.mark.slow
def test_mmpretrain_lists_and_builds_our_models():
    assert 'mixedae_vitb_1600e' in mmpretrain.list_models('mixedae*')
    model = mmpretrain.get_model(
        'mixedae_vitb_300e', backbone=dict(arch='deit-tiny'),
        neck=dict(decoder_depth=1, decoder_embed_dim=16, decoder_num_heads=1))
    assert type(model) is mixedae_mm.models.MixedAE
    listed = ModelHub.get('mixedae_vitb_300e').metadata.data['Parameters']
    full = mmpretrain.get_model('mixedae_vitb_300e')
    assert sum(value.numel() for value in full.parameters()) == listed
