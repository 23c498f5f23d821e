"""What is raised while a run is prepared becomes one sentence with the key."""
import os

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmpretrain.registry import MODELS
from toy_projects import write_project

from mixedae_mm.launch import test as launch_test
from mixedae_mm.launch import train as launch_train
from mixedae_mm.config.boundary import preparing, read_config
from mixedae_mm.launch.entry import load_config
from mixedae_mm.utils.errors import ConfigurationError


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp('project')
    write_project(folder)
    return folder


@pytest.fixture
def train(project, monkeypatch, capsys):
    """Train with a config that changes the toy one; returns status and last line."""
    monkeypatch.chdir(project)
    monkeypatch.syspath_prepend(project)
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '-1')
    # It asks compilers for their versions, which takes most of a runner's start.
    monkeypatch.setattr('mmengine.runner.Runner._log_env', lambda self, env_cfg: None)

    # Runs of the same second share a logger, which writes to the stream of its test.
    MMLogger._instance_dict.clear()

    def run(text='', base='classify.py', options=(), main=launch_train.main,
            own_code=False):
        (project / 'mine.py').write_text(f'_base_ = {base!r}\n{text}\n')
        status = main(['mine.py', *options])
        printed = capsys.readouterr().err
        assert ('Traceback' in printed) == own_code
        return status, printed.splitlines()[-1]

    return run


@pytest.fixture
def refuse(train):
    """The same with a config that must be refused; returns the sentence."""

    def run(*args, **kwargs):
        status, last = train(*args, **kwargs)
        assert status == 2 and last.startswith('error: ')
        return last

    return run


# ------------------------------------------------------------- while it is built


@pytest.mark.parametrize('text, facts', [
    # Names that are not registered, with the nearest that is.
    ("model = dict(head=dict(type='LinearClsHed'))",
     ['model.head.type', "'LinearClsHed'", "'LinearClsHead'"]),
    ("model = dict(backbone=dict(type='mmpretrain.VisionTransfomer'))",
     ['model.backbone.type', "'VisionTransformer'"]),
    ("optim_wrapper = dict(optimizer=dict(type='Sgd'))",
     ['optim_wrapper.optimizer.type', "'SGD'"]),
    ("optim_wrapper = dict(type='AmpOptimWraper')",
     ['optim_wrapper.type', "'AmpOptimWrapper'"]),
    ("train_dataloader = dict(sampler=dict(type='DefaltSampler'))",
     ['train_dataloader.sampler.type', "'DefaultSampler'"]),
    ("train_dataloader = dict(sampler=dict(shufle=True), dataset=dict("
     "_delete_=True, type='UnlabelledImageFolder', data_root='images'))",
     ['train_dataloader.sampler.shufle', 'did you mean shuffle?']),
    ("train_dataloader = dict(dataset=dict(pipeline=[dict(type='PackInput')]))",
     ['train_dataloader.dataset.pipeline.0.type', "'PackInputs'"]),
    ("val_evaluator = dict(type='Acuracy')", ['val_evaluator.type', "'Accuracy'"]),
    ("custom_hooks = [dict(type='EMAHok')]", ['custom_hooks.0.type', "'EMAHook'"]),
    ("param_scheduler = [dict(type='CosineAnealingLR')]",
     ['param_scheduler.0.type', "'CosineAnnealingLR'"]),
    # Arguments that a constructor does not have, or lacks.
    ('train_dataloader = dict(batchsize=32)',
     ['train_dataloader.batchsize', 'did you mean batch_size?']),
    ('train_cfg = dict(max_epoch=3)', ['train_cfg.max_epoch', 'max_epochs?']),
    ('model = dict(head=dict(num_clases=3))', ['model.head.num_clases', 'num_classes']),
    ('optim_wrapper = dict(optimizer=dict(wight_decay=1))',
     ['optim_wrapper.optimizer.wight_decay', 'SGD', 'weight_decay']),
    ('default_hooks = dict(logger=dict(intervall=3))',
     ['default_hooks.logger.intervall', 'did you mean interval?']),
    # mmengine would fail at the first save.
    ('default_hooks = dict(checkpoint=dict(intervall=3))',
     ['default_hooks.checkpoint.intervall', 'did you mean interval?']),
    ('randomness = dict(sed=3)', ['randomness.sed']),
    ('val_cfg = dict(foo=3)', ['val_cfg.foo', 'ValLoop', 'fp16']),
    ("model = dict(head=dict(_delete_=True, type='LinearClsHead'))",
     ['model.head', 'LinearClsHead', 'num_classes', 'in_channels']),
    # Parts that are not dictionaries with a type.
    ('model = dict(head=dict(_delete_=True, num_classes=3))',
     ['model.head', "{'num_classes': 3}", 'type']),
    ("model = dict(backbone='resnet')", ['model.backbone', "'resnet'", 'dict']),
    # Values that a constructor refuses in its own words.
    ("model = dict(head=dict(num_classes='abc'))",
     ['model.head', 'VisionTransformerClsHead', "num_classes='abc'"]),
    ("optim_wrapper = dict(optimizer=dict(momentum='abc'))",
     ['optim_wrapper.optimizer', 'SGD', "momentum='abc'"]),
    ("model = dict(backbone=dict(arch='foo', _delete_=True, type='VisionTransformer'))",
     ['model.backbone', "arch='foo'", 'deit-tiny']),
    ('default_hooks = dict(timer=dict(_delete_=True))', ['default_hooks.timer']),
    ('val_evaluator = None', ['val_dataloader', 'val_evaluator']),
    ("log_level = 'LOUD'", ['log_level', "'LOUD'"]),
])
def test_what_fails_is_named(refuse, text, facts):
    sentence = refuse(text)
    assert all(fact in sentence for fact in facts), sentence


def test_the_same_for_the_test_command(refuse, project):
    (project / 'any.pth').touch()
    assert 'test_dataloader.foo is not an argument of DataLoader' in refuse(
        'test_dataloader = dict(foo=1)', options=['any.pth'], main=launch_test.main)


def test_a_checkpoint_of_other_classes_is_not_tested(refuse, project, tmp_path):
    """As in training: its accuracy would mean nothing."""
    cfg = Config.fromfile(project / 'classify.py')
    torch.save(dict(state_dict=MODELS.build(cfg.model).state_dict(),
                    meta=dict(dataset_meta=dict(classes=['ant', 'bee']))),
               tmp_path / 'other.pth')
    sentence = refuse(options=[str(tmp_path / 'other.pth')], main=launch_test.main)
    assert all(fact in sentence for fact in (
        'ant, bee', 'cat, dog', 'test_dataloader')), sentence


def test_errors_of_the_training_keep_their_traceback(train):
    """As do all of a user's own runner, which does not come here."""
    with pytest.raises(AttributeError, match="'loss'"):
        train('model = dict(head=None)')


def test_so_do_errors_of_what_follows_the_training():
    def call_hook(fn_name):
        raise ValueError('of a hook')

    with pytest.raises(ValueError, match='^of a hook$') as error:
        with preparing(Config()):
            call_hook('after_run')
    assert not isinstance(error.value, ConfigurationError)
    with pytest.raises(ConfigurationError, match='of a hook'):
        with preparing(Config()):
            call_hook('before_run')


@pytest.mark.parametrize('option, facts', [
    ('train_dataloader.dataset.pipeline.7.scale', ['list of 2', '7', 'from 0 to 1']),
    ('train_dataloader.dataset.pipeline.last.scale', ['list of 2', 'last']),
    ('train_dataloader.dataset.pipeline.².scale', ['list of 2', '²']),
    ('custom_hooks.0.interval', ['custom_hooks is empty', 'the whole list']),
    ('val_evaluator.topk', ['None in mine.py', 'val_evaluator._delete_=True']),
    ('model.head.num_classes.a', ['is 2 in mine.py', 'num_classes._delete_=True']),
    ('model.head.topk.0.a', ['topk.0 is 1', 'the whole list'])])
def test_options_that_have_no_place(refuse, option, facts):
    sentence = refuse('custom_hooks = []\nval_evaluator = None\n'
                      'model = dict(head=dict(topk=[1]))',
                      options=['--cfg-options', f'{option}=1'])
    assert all(fact in sentence for fact in [
        f'--cfg-options {option} is not possible', *facts]), sentence


def test_options_in_the_place_of_none(project):
    (project / 'none.py').write_text('model = dict(backbone=dict(init_cfg=None))')
    init_cfg = 'model.backbone.init_cfg'
    cfg = read_config(str(project / 'none.py'), {
        f'{init_cfg}.type': 'Pretrained', f'{init_cfg}.checkpoint': 'a.pth',
        f'{init_cfg}._delete_': True})
    assert cfg.model.backbone.init_cfg == dict(type='Pretrained', checkpoint='a.pth')


# ----------------------------------------------------------- code of the user's own

OWN_MODULE = """
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

@HOOKS.register_module(force=True)
class Mine(Hook):
    def __init__(self, a):
        self.a = 1 / a

    def before_run(self, runner):
        dict(one=1)['two'] if self.a < 1 else [].index(self.a)
"""


@pytest.mark.parametrize('a, facts', [
    (0, ['custom_hooks.0 (Mine)', 'a=0', 'ZeroDivisionError', 'line 8 of']),
    (1, ['ValueError', 'line 11 of']),
    (2, ['KeyError: two', 'line 11 of'])])
def test_errors_of_own_code_show_where_they_are(project, refuse, a, facts):
    """Behind their traceback."""
    (project / 'own_module.py').write_text(OWN_MODULE)
    last = refuse("custom_imports = dict(imports=['own_module'])\n"
                  f"custom_hooks = [dict(type='Mine', a={a})]", own_code=True)
    assert all(fact in last for fact in ['own_module.py', *facts]), last


@pytest.mark.parametrize('module, text, own_code, facts', [
    ('no_module', None, False, ['ModuleNotFoundError', 'PYTHONPATH']),
    ('raises', '\n1 / 0', True, ['ZeroDivisionError', 'line 2 of', 'raises.py']),
    ('imports', '\nimport no_other', True, ['no_other', 'line 2 of', 'imports.py']),
    ('unfinished', 'a = (', False, ['SyntaxError', 'line 1 of', 'unfinished.py']),
])
def test_custom_imports_that_fail(project, refuse, module, text, own_code, facts):
    if text is not None:
        (project / f'{module}.py').write_text(text)
    last = refuse(f"custom_imports = dict(imports=['{module}'])", own_code=own_code)
    assert all(fact in last for fact in ['custom_imports', 'mine.py', module, *facts])


@pytest.mark.parametrize('text', ['raise KeyboardInterrupt', ''])
def test_ctrl_c_before_the_first_step(train, monkeypatch, text):
    def interrupt(cfg):
        raise KeyboardInterrupt

    monkeypatch.setattr('mmengine.runner.Runner.from_cfg', interrupt)
    assert train(text) == (130, 'interrupted')
    with pytest.raises(KeyboardInterrupt):
        train(text, options=['--traceback'])


@pytest.mark.parametrize('options, shown', [(['--traceback'], '0'), ([], '1')])
def test_the_traceback_is_an_option(train, monkeypatch, options, shown):
    monkeypatch.setenv('MIXEDAE_TRACEBACK', shown)
    with pytest.raises(ConfigurationError) as error:
        train("log_level = 'LOUD'", options=options)
    assert error.value.__cause__ is not None


# --------------------------------------------------------------- while it is read


@pytest.mark.parametrize('text, facts', [
    ("model = dict(head=dict(type='A'", ['line 2', 'mine.py', 'never closed']),
    ('a = 1\nb = foo + 1', ['line 3', 'mine.py', "'foo'"]),
    ('model = dict(head=dict(num_classes=dict(a=1)))',
     ['model.head.num_classes', 'mine.py', 'int']),
    ("custom_imports = dict(imports=['mixedae_mmm'])",
     ['custom_imports', 'mixedae_mmm']),
])
def test_where_a_file_cannot_be_read(refuse, text, facts):
    sentence = refuse(text)
    assert all(fact in sentence for fact in facts), sentence


@pytest.mark.parametrize('base, facts', [
    ('clasify.py', ['mine.py', 'clasify.py', 'did you mean classify.py?']),
    ('mixedae_mm::mixedae_vitb_30e', ['mixedae_vitb_300e.py?']),
    ('mmnothing::a/b.py', ['mmnothing']),
])
def test_a_base_that_does_not_exist(refuse, base, facts):
    sentence = refuse(base=base)
    assert all(fact in sentence for fact in facts), sentence


@pytest.mark.parametrize('option', ['model.head', '=4', 'a..b=1', 'model.x=[1,(2'])
def test_options_that_are_no_settings(capsys, option):
    with pytest.raises(SystemExit) as leaving:
        launch_train.main(['classify.py', '--cfg-options', option])
    assert leaving.value.code == 2
    assert '--cfg-options' in capsys.readouterr().err.splitlines()[-1]


# ------------------------------------------------------ what DATA_ROOT may hold


@pytest.mark.parametrize('name', ["o'brien", 'a"b', r'back\slash\1', 'white space'])
@pytest.mark.parametrize('text', [
    "data_root = '{{$DATA_ROOT:data/none}}'",
    'data_root = "{{$DATA_ROOT:data/none}}"',
])
def test_any_name_of_a_folder(tmp_path, monkeypatch, name, text):
    monkeypatch.setenv('DATA_ROOT', f'/data/{name}')
    (tmp_path / 'mine.py').write_text(text)
    assert Config.fromfile(tmp_path / 'mine.py').data_root == f'/data/{name}'


def test_python_in_a_variable_stays_python(tmp_path, monkeypatch):
    monkeypatch.setenv('NAMES', "('ant', 'bee')")
    (tmp_path / 'mine.py').write_text('''classes = {{'$NAMES:None'}}''')
    assert Config.fromfile(tmp_path / 'mine.py').classes == ('ant', 'bee')


def test_an_empty_variable(refuse, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', '')
    sentence = refuse(base='mixedae_mm::mixedae_vitb_folder')
    assert 'DATA_ROOT is empty' in sentence and 'mixedae_vitb_folder.py' in sentence


def test_home_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv('DATA_ROOT', '~/images')
    args = launch_train.parse_arguments([
        'mixedae_mm::mixedae_vitb_folder', '--cfg-options', 'load_from=~/a.pth',
        'custom_hooks=[~,~/b]', '--work-dir=~/runs'])
    cfg = load_config(args)
    assert cfg.train_dataloader.dataset.data_root == os.path.expanduser('~/images')
    assert cfg.load_from == os.path.expanduser('~/a.pth')
    assert cfg.work_dir == os.path.expanduser('~/runs')
    assert cfg.custom_hooks == [os.path.expanduser('~'), os.path.expanduser('~/b')]
