"""The commands users type, on a toy project of each toolbox."""

import json
import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import preloaded
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from toy_projects import CLASSIFICATION, SEGMENTATION, write_project

from mixedae_mm import compat
from mixedae_mm.config.boundary import check_toolbox
from mixedae_mm.config.tree import runner_of, scope_of, type_name
from mixedae_mm.launch import checks as launch_checks
from mixedae_mm.launch import device as launch_device
from mixedae_mm.launch import entry as launch
from mixedae_mm.launch import test as launch_test
from mixedae_mm.launch import train as launch_train
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.progress import with_progress

ROOT = Path(__file__).parents[2]
TOOLS = ROOT / 'tools'
HOME = os.path.expanduser('~/d')


@pytest.fixture(scope='module')
def project(tmp_path_factory):
    """A folder outside the repository with three configs and eight images each."""
    folder = tmp_path_factory.mktemp('project')
    write_project(folder)
    return folder


def run(project, command, *options, **environment):
    """Run a program of tools/ in the project's folder; returns all that it printed."""
    environment = {
        **{name: value for name, value in os.environ.items()
           if name not in ('PYTHONPATH', 'RANK', 'WORLD_SIZE', 'LOCAL_RANK')},
        'PATH': f'{Path(sys.executable).parent}{os.pathsep}{os.environ["PATH"]}',
        'CUDA_VISIBLE_DEVICES': '-1', **environment}
    command = [str(part) for part in (TOOLS / command, *options)]
    if command[0].endswith('.py'):
        done = preloaded.run([sys.executable, *command], project, environment)
    else:
        done = subprocess.run(
            command, cwd=project, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def config_with(**changes):
    """The toy classification config with some settings replaced."""
    cfg = Config.fromstring(CLASSIFICATION, '.py')
    cfg.launcher = 'none'
    cfg.merge_from_dict(changes)
    return cfg


def trained_with(options=(), **changes):
    """What the training command makes of :func:`config_with`."""
    cfg = config_with(**changes)
    launch_train.apply_options(
        cfg, launch_train.parse_arguments(['x.py', *options]))
    return cfg


# ---------------------------------------------------------------- options


@pytest.mark.parametrize('options, resume, load_from', [
    ([], None, None), (['--resume'], True, None), (['--resume', 'auto'], True, None),
    (['--resume', 'a.pth'], True, 'a.pth')])
def test_resume_alone_is_automatic_and_with_a_path_that_path(
        options, resume, load_from):
    cfg = trained_with(options)
    assert (cfg.get('resume'), cfg.get('load_from')) == (resume, load_from)


def test_where_there_is_nothing_to_resume_a_run_starts_from_load_from(tmp_path):
    start = dict(load_from='mae.pth', work_dir=str(tmp_path))
    cfg = trained_with(['--resume'], **start)
    assert (cfg.resume, cfg.load_from) == (False, 'mae.pth')
    torch.save(dict(meta=dict(epoch=1, iter=1), message_hub={}), tmp_path / 'a.pth')
    cfg = trained_with(['--resume'], **start)
    assert (cfg.resume, cfg.load_from) == (True, None)


def test_a_flexible_runner_is_told_the_newest_whole_checkpoint(monkeypatch):
    monkeypatch.setattr(launch_train, 'find_resumable_checkpoint',
                        lambda folder, out_dir: f'{folder}/whole.pth')
    cfg = trained_with(['--resume'], runner_type='FlexibleRunner', work_dir='run')
    assert cfg.resume is True and cfg.load_from == 'run/whole.pth'


@pytest.mark.parametrize('given, wanted', [
    (dict(_delete_=True, optimizer=dict(lr=1)),
     dict(type='AmpOptimWrapper', optimizer=dict(lr=1), loss_scale='dynamic')),
    (dict(_delete_=True, type='AmpOptimWrapper', dtype='bfloat16'),
     dict(type='AmpOptimWrapper', dtype='bfloat16'))])
def test_amp_turns_a_plain_wrapper_and_keeps_what_is_set(given, wanted):
    assert trained_with(['--amp'], optim_wrapper=given).optim_wrapper == wanted


@pytest.mark.parametrize('options, changes, sentence', [
    (['--amp'], dict(optim_wrapper=dict(type='ApexOptimWrapper')),
     'x.py has ApexOptimWrapper'),
    (['--auto-scale-lr'], dict(auto_scale_lr=None), 'base_batch_size.*x.py has none'),
    ([], dict(optim_wrapper=None), 'x.py has no optim_wrapper')])
def test_options_that_the_config_is_not_made_for(options, changes, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        trained_with(options, **changes)


@pytest.mark.parametrize('options, enabled, batch', [
    (['--auto-scale-lr'], False, 2), ([], True, 2), ([], False, 8)])
def test_auto_scale_lr_counts_accumulated_batches_once(options, enabled, batch):
    cfg = config_with(**{'optim_wrapper.accumulative_counts': 4,
                         'auto_scale_lr.enable': enabled})
    for _ in range(2):  # again, from the config that a run has saved
        launch_train.apply_options(
            cfg, launch_train.parse_arguments(['x.py', *options]))
        assert cfg.auto_scale_lr.base_batch_size == batch
        assert cfg.auto_scale_lr.enable == (batch == 2)


@pytest.mark.parametrize('step, kind', [
    (dict(type='LoadChannels', channels=4), 'RandomHorizontalFlip'),
    (dict(type='LoadImageFromFile'), 'RandomFlip')])
def test_a_pipeline_of_tensors_is_flipped_as_tensors(step, kind):
    cfg = config_with(tta_model=None, tta_pipeline=None)
    cfg.test_dataloader.dataset.pipeline[0] = step
    launch_test.enable_test_time_augmentation(cfg, 'x.py')
    flips, _ = cfg.tta_pipeline[-1].transforms
    assert [flip.type.rpartition('/')[2] for flip in flips] == [kind] * 2


def test_all_data_sets_inside_of_wrappers_are_flipped():
    cfg = config_with()
    part = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[
        part, dict(type='RepeatDataset', times=1, dataset=part)])
    launch_test.enable_test_time_augmentation(cfg, 'x.py')
    first, second = cfg.test_dataloader.dataset.datasets
    assert first.pipeline == second.dataset.pipeline == cfg.tta_pipeline
    assert cfg.tta_pipeline[-1].type == 'TestTimeAug'


def test_data_sets_of_different_pipelines_need_one_for_flipping():
    cfg = config_with()
    part = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type='ConcatDataset', datasets=[
        part, dict(part, pipeline=part.pipeline[:1])])
    with pytest.raises(ConfigurationError, match='tta_pipeline.* different'):
        launch_test.enable_test_time_augmentation(cfg, 'x.py')


def test_options_of_validation_and_loaders():
    cfg = trained_with(['--no-validate'])
    assert cfg.val_cfg is cfg.val_dataloader is cfg.val_evaluator is None
    cfg = trained_with(['--no-pin-memory', '--no-persistent-workers'])
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        assert loader.pin_memory is loader.persistent_workers is False


def test_loader_defaults_are_for_mmpretrain_only():
    cfg = config_with(**{'val_dataloader.collate_fn': dict(type='pseudo_collate'),
                         'test_dataloader.num_workers': 0,
                         'test_dataloader.persistent_workers': True})
    launch.set_dataloader_defaults(cfg)
    assert cfg.train_dataloader.collate_fn == dict(type='default_collate')
    assert cfg.train_dataloader.persistent_workers is True
    # What is set stays, but for workers that are not there.
    assert cfg.val_dataloader.collate_fn.type == 'pseudo_collate'
    assert cfg.test_dataloader.persistent_workers is False
    cfg = config_with(default_scope='mmdet')
    launch.set_dataloader_defaults(cfg)
    assert not {'collate_fn', 'persistent_workers'} & set(cfg.train_dataloader)


def test_the_cpu_gets_float32_plain_batch_norm_and_no_ddp_device():
    cfg = Config.fromstring(SEGMENTATION, '.py')
    cfg.launcher, cfg.strategy = 'pytorch', dict(type='DDPStrategy')
    cfg.model_wrapper_cfg = None  # as if it were not there
    notes = launch_device.adapt_to_cpu(cfg)
    assert len(notes) == 2
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert 'loss_scale' not in cfg.optim_wrapper
    assert cfg.model.backbone.norm_cfg.type == 'BN'
    assert cfg.model.decode_head.norm_cfg.type == 'BN'
    assert cfg.model_wrapper_cfg == cfg.strategy.model_wrapper | dict(
        find_unused_parameters=False)
    assert cfg.strategy.model_wrapper == dict(broadcast_buffers=False, device_ids=None)
    assert launch_device.adapt_to_cpu(cfg) == []  # nothing is left to do


def test_alone_on_the_cpu_the_model_is_left_as_it_is():
    cfg = Config.fromstring(SEGMENTATION, '.py')
    cfg.launcher = 'none'
    assert len(launch_device.adapt_to_cpu(cfg)) == 1
    assert cfg.model.backbone.norm_cfg.type == 'SyncBN'  # mmengine reverts it
    assert 'model_wrapper_cfg' not in cfg


def of_module(name):
    """A class as a new config names it."""
    return type('FlexibleRunner', (), dict(__module__=name))


@pytest.mark.parametrize('cfg, scope', [
    (dict(default_scope='mmseg'), 'mmseg'), (dict(), 'mmengine'),
    (dict(default_scope=None, model=dict(type=of_module('mmdet.models'))), 'mmdet'),
    (dict(model=dict(type='mmpretrain.ImageClassifier')), 'mmpretrain'),
    *((dict(model=model), 'mmengine') for model in (
        dict(type='Mine'), dict(type=None), dict(type=dict()), 'Mine', None))])
def test_the_toolbox_of_a_config(cfg, scope):
    assert scope_of(Config(cfg)) == scope


def test_names_with_a_scope_and_classes():
    assert type_name(dict(type='mmengine.AmpOptimWrapper')) == 'AmpOptimWrapper'
    assert type_name(dict(type=torch.nn.Linear)) == 'Linear'
    assert type_name(dict()) == ''
    assert runner_of(Config()) == 'Runner'
    for kind in ('mmengine.FlexibleRunner', of_module('mmengine.runner')):
        assert runner_of(Config(dict(runner_type=kind))) == 'FlexibleRunner'


@pytest.mark.parametrize('scope, hook', [
    ('mmpretrain', dict(enable=True, out_dir=HOME)),
    ('mmseg', dict(draw=True)),
    ('mmdet', dict(draw=True, test_out_dir=HOME))])
def test_pictures_are_turned_on_as_each_toolbox_spells_it(scope, hook):
    cfg = config_with(default_scope=scope)
    launch_test.enable_pictures(cfg, launch_test.parse_arguments(
        ['x.py', 'x.pth', '--show-dir=~/d', '--interval', '3']))
    expected = dict(type='VisualizationHook', show=False, wait_time=2, interval=3)
    assert cfg.default_hooks.visualization == {**expected, **hook}
    assert (cfg.visualizer.get('save_dir') == HOME) == (scope == 'mmseg')


# ------------------------------------------------------- mistakes, one sentence

TEST = ['classify.py', 'any.pth']


@pytest.mark.parametrize('command, argv, facts', [
    (launch_train, ['no/such.py'], ['config no/such.py does not exist\n']),
    (launch_train, ['mixedae_vitb_300.py'],
     [f'did you mean {ROOT / "configs/mixedae_vitb_300e.py"}?\n']),
    *((command, ['classify.py', *argv], ['checkpoint no.pth does not exist\n'])
      for command, argv in (
          (launch_train, ['--resume', 'no.pth']), (launch_test, ['no.pth']),
          (launch_train, ['--cfg-options', 'load_from=no.pth']))),
    (launch_train, ['classify.py', '--cfg-options',
                    'model.backbone.init_cfg.type=Pretrained',
                    'model.backbone.init_cfg.checkpoint=no.pth'],
     ['checkpoint no.pth does not exist; ', 'PRETRAINED', 'init_cfg']),
    (launch_train, ['classify.py', '--launcher', 'pytorch'],
     ['RANK, WORLD_SIZE, LOCAL_RANK', 'dist_train.sh']),
    (launch_train, ['classify.py', '--launcher', 'slurm'],
     ['SLURM_PROCID', 'slurm_train.sh']),
    (launch_train, ['classify.py', '--cfg-options', 'train_dataloader=None'],
     ['has no train_dataloader']),
    (launch_test, [*TEST, '--cfg-options', 'test_dataloader=None'],
     ['has no test_dataloader']),
    # Outputs that could only fail when the whole test has run.
    (launch_test, [*TEST, '--out', 'a.txt'], ['.pkl']),
    (launch_test, [*TEST, '--out', 'a.txt', '--out-item', 'metrics'], ['.json']),
    (launch_test, [*TEST, '--out-item', 'metrics'], ['needs --out']),
    (launch_test, [*TEST, '--out=~/a.txt'], [f'--out {HOME[:-1]}a.txt']),
    (launch_test, [*TEST, '--show', '--cfg-options', 'default_hooks=None'],
     ['default_hooks']),
    *((launch_test, [*TEST, '--tta', '--show-dir', 'a', *options],
       ['cannot be combined'])
      for options in ([], ['--cfg-options', 'default_scope=None']))])
def test_what_is_refused_at_once(
        project, monkeypatch, capsys, command, argv, facts):
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(project)
    (project / 'any.pth').touch()
    folder = {path.name for path in project.iterdir()}
    assert command.main(argv) == 2
    printed = capsys.readouterr().err
    assert printed.startswith('error: ') and printed.count('\n') == 1
    assert all(fact in printed for fact in facts), printed
    assert {path.name for path in project.iterdir()} == folder  # nothing was built


def test_checkpoint_urls_are_left_to_mmengine():
    launch_checks.check_checkpoint('https://example.org/a.pth')
    launch_checks.check_checkpoint('torchvision://resnet50')


def test_to_resume_own_and_named_checkpoints_are_unpickled(monkeypatch, tmp_path):
    """And nothing else, although it is the same process."""
    monkeypatch.setattr(CheckpointLoader, '_schemes', dict(CheckpointLoader._schemes))
    (tmp_path / 'run').mkdir()
    files = {name: str(tmp_path / name)
             for name in ('run/own.pth', 'named.pth', 'x.pth')}
    for file in files.values():
        torch.save(dict(state_dict={}, kept=Path('a')), file)
    cfg = config_with(work_dir=str(tmp_path / 'run'), resume=True,
                      load_from=files['named.pth'])
    launch.read_checkpoints_as_data(cfg)
    for name in ('run/own.pth', 'named.pth'):
        assert CheckpointLoader.load_checkpoint(files[name])['kept'] == Path('a')
    for name, resume in (('x.pth', True), ('named.pth', False)):
        cfg.resume = resume
        with pytest.raises(ConfigurationError, match='would run code'):
            CheckpointLoader.load_checkpoint(files[name])


def test_more_processes_than_gpus(monkeypatch):
    for name, value in (('RANK', '2'), ('LOCAL_RANK', '2'), ('WORLD_SIZE', '4')):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(launch_checks, 'get_device', lambda: 'cuda')
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(ConfigurationError, match='process 2 .* only 2'):
        launch_checks.check_launcher('pytorch')


def test_a_strategy_that_cannot_start(monkeypatch):
    cfg = config_with(strategy=dict(type='ViTFSDPStrategy'))
    with pytest.raises(ConfigurationError, match="runner_type='FlexibleRunner'"):
        launch_checks.check_strategy(cfg)  # the ordinary runner would not read it
    cfg.runner_type = 'FlexibleRunner'
    with pytest.raises(ConfigurationError, match='ViTFSDPStrategy.*several processes'):
        launch_checks.check_strategy(cfg)
    cfg.launcher = 'pytorch'
    launch_checks.check_strategy(cfg)
    monkeypatch.setattr(compat, 'is_available', lambda name: False)
    for kind, package in launch_checks.STRATEGY_PACKAGES.items():
        cfg.strategy.type = kind
        with pytest.raises(ConfigurationError, match=f'`pip install {package}`'):
            launch_checks.check_strategy(cfg)
    cfg.pop('strategy')
    launch_checks.check_strategy(cfg)


@pytest.mark.parametrize('scope', ['mmseg', 'mmdet'])
def test_a_toolbox_that_is_absent_or_has_no_operators(scope, monkeypatch):
    cfg = config_with(default_scope=scope)
    monkeypatch.setattr(compat, 'is_available', lambda name: True)
    monkeypatch.setattr(compat, 'has_compiled_mmcv', lambda: False)
    with pytest.raises(ConfigurationError, match='compiled operators'):
        check_toolbox(cfg, 'x.py')
    monkeypatch.setattr(compat, 'is_available', lambda name: False)
    with pytest.raises(ConfigurationError, match=f'{scope}, which is not installed: '
                       'run `pip install'):
        check_toolbox(cfg, 'x.py')


def test_only_our_own_errors_lose_their_traceback(capsys):
    def report(error):
        def command(args):
            raise error
        return launch.report_errors(command, None)

    assert report(ConfigurationError('r is 2')) == 2
    assert capsys.readouterr().err == 'error: r is 2\n'
    assert report(ConfigurationError(  # in a worker of a loader
        'Caught ConfigurationError in DataLoader worker process 0.\nOriginal '
        'Traceback (most recent call last):\n  File "a.py", line 1\n'
        'mixedae_mm.utils.errors.ConfigurationError: r is 3\n')) == 2
    assert capsys.readouterr().err == 'error: r is 3\n'
    with pytest.raises(ValueError, match='deep inside'):
        report(ValueError('deep inside'))


def test_a_refusal_is_the_last_line(capsys):
    """Also where it interrupts a progress bar, which ends with the generator."""
    def command(args):
        items = with_progress([1, 2], 'reading', 2)  # kept by the traceback
        raise ConfigurationError(f'r is {next(items)}')

    assert launch.report_errors(command, None) == 2
    assert capsys.readouterr().err.splitlines()[-1] == 'error: r is 1'


# ----------------------------------------------------- launch scripts, recorded


@pytest.mark.parametrize('script, count', [
    ('dist_train.sh', 2), ('dist_test.sh', 3), ('slurm_train.sh', 3),
    ('slurm_test.sh', 4)])
def test_scripts_say_how_to_be_called(script, count):
    assert os.stat(TOOLS / script).st_mode & stat.S_IXUSR
    for given in range(count):
        done = subprocess.run([TOOLS / script, *'abcd'[:given]], text=True,
                              capture_output=True)
        assert done.returncode == 2 and 'usage: ' in done.stdout + done.stderr


@pytest.mark.parametrize('command, environment, wanted', [
    (['dist_train.sh', 'a b.py', 8, '--amp', 'x="1, 2"'],
     dict(NNODES='4', NODE_RANK='3', MASTER_ADDR='10.0.0.1', PORT='1234'),
     ['-m', 'torch.distributed.run', '--nnodes=4', '--node_rank=3',
      '--master_addr=10.0.0.1', '--master_port=1234', '--nproc_per_node=8',
      str(TOOLS / 'train.py'), 'a b.py', '--launcher', 'pytorch', '--amp', 'x="1, 2"']),
    (['dist_test.sh', 'a.py', 'b.pth', 2, '--tta'], dict(PORT='1234'),
     ['-m', 'torch.distributed.run', '--nnodes=1', '--node_rank=0',
      '--master_addr=127.0.0.1', '--master_port=1234', '--nproc_per_node=2',
      str(TOOLS / 'test.py'), 'a.py', 'b.pth', '--launcher', 'pytorch', '--tta']),
    *((['slurm_train.sh', 'gpu', 'job', 'a.py', *work_dir, '--resume'],
       dict(GPUS='16', SRUN_ARGS='--exclude n1 --time 1'),
       ['-p', 'gpu', '--job-name=job', '--gres=gpu:8', '--ntasks=16',
        '--ntasks-per-node=8', '--cpus-per-task=5', '--kill-on-bad-exit=1',
        '--exclude', 'n1', '--time', '1', 'python', '-u', str(TOOLS / 'train.py'),
        'a.py', '--launcher', 'slurm',
        *(['--work-dir', 'work'] if work_dir else []), '--resume'])
      for work_dir in ([], ['work'])),
    # Fewer GPUs than a node has.
    (['slurm_test.sh', 'gpu', 'job', 'a.py', 'b.pth', '--tta'],
     dict(GPUS='2', CPUS_PER_TASK='3'),
     ['-p', 'gpu', '--job-name=job', '--gres=gpu:2', '--ntasks=2',
      '--ntasks-per-node=2', '--cpus-per-task=3', '--kill-on-bad-exit=1', 'python',
      '-u', str(TOOLS / 'test.py'), 'a.py', 'b.pth', '--launcher', 'slurm', '--tta'])])
def test_what_the_scripts_start(project, tmp_path, command, environment, wanted):
    """By programs that print their arguments in place of the real ones."""
    for name in ('srun', 'python'):
        program = tmp_path / name
        program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
        program.chmod(0o755)
    path = f'{tmp_path}{os.pathsep}{os.environ["PATH"]}'
    assert run(project, *command, PATH=path, **environment).splitlines() == wanted


# --------------------------------------------------------------- real runs


def check_opening(printed, work_dir, what, found):
    """A log begins with what is asked and found; the rest is in the file, behind it."""
    assert f'{what} with' in printed and found in printed
    background = ('System environment', 'Config:', 'Hooks will be executed')
    assert not any(words in printed for words in background)
    log, = work_dir.glob('*/*.log')
    text = log.read_text()
    places = [text.index(words) for words in (f'{what} with', found, *background)]
    assert places == sorted(places)


@pytest.mark.slow
def test_classification_from_training_to_test(project):
    """Train, test with every output, from a folder outside the repository."""
    printed = run(project, 'train.py', 'classify.py', '--auto-scale-lr')
    assert 'No GPU was found: mixed precision is off' in printed
    assert 'Scaling the original LR by 0.5' in printed
    assert 'accuracy/top1' in printed
    checkpoint = project / 'work_dirs/classify/epoch_1.pth'
    assert checkpoint.exists()
    check_opening(printed, project / 'work_dirs/classify', 'Train', 'train 8 images in')

    printed = run(project, 'test.py', 'classify.py', checkpoint, '--work-dir',
                  'test', '--out', 'out.pkl', '--show-dir', 'pictures')
    assert 'accuracy/top1' in printed
    check_opening(printed, project / 'test', 'Test', 'test 8 images in')
    with open(project / 'out.pkl', 'rb') as file:
        assert len(pickle.load(file)) == 8
    assert len(list((project / 'pictures').rglob('*.png'))) == 8
    run(project, 'test.py', 'classify.py', checkpoint, '--out', 'out.json',
        '--out-item', 'metrics', '--tta')
    assert set(json.loads((project / 'out.json').read_text())) == {'accuracy/top1'}


@pytest.mark.slow
def test_segmentation_from_training_to_test(project):
    pytest.importorskip('mmseg')
    printed = run(project, 'dist_train.sh', 'segment.py', 2, '--work-dir', 'seg',
                  '--cfg-options', 'train_dataloader.num_workers=0')
    assert 'SyncBN is BN' in printed and 'mIoU' in printed
    printed = run(project, 'test.py', 'segment.py', 'seg/epoch_1.pth', '--tta',
                  '--out', 'maps', '--show-dir', 'seg_pictures')
    assert 'mIoU' in printed
    assert len(list((project / 'maps').glob('*.png'))) == 8
    assert len(list((project / 'seg_pictures').rglob('*.png'))) == 8


@pytest.mark.slow
def test_detection_from_training_to_test(project):
    pytest.importorskip('mmdet')
    printed = run(project, 'train.py', 'detect.py', '--work-dir', 'det')
    assert 'coco/bbox_mAP' in printed
    printed = run(project, 'test.py', 'detect.py', 'det/epoch_1.pth', '--tta',
                  '--work-dir', 'det_test', '--out', 'det.pkl', '--show-dir', 'shown')
    assert 'coco/bbox_mAP' in printed
    with open(project / 'det.pkl', 'rb') as file:
        assert len(pickle.load(file)) == 8
    assert len(list((project / 'det_test').rglob('shown/*.png'))) == 8


@pytest.mark.slow
def test_two_processes_stop_resume_and_test(project):
    """gloo on the CPU: two do the steps that one does with the whole batch."""
    train = ['dist_train.sh', 'classify.py', 2, '--work-dir', 'dist']
    printed = run(project, *train)
    assert 'No GPU was found' in printed
    run(project, 'train.py', 'classify.py', '--work-dir', 'one', '--cfg-options',
        'train_dataloader.batch_size=8', 'train_dataloader.num_workers=0')
    one, two = (torch.load(project / name / 'epoch_1.pth', 'cpu', weights_only=False)
                for name in ('one', 'dist'))
    for name, value in one['state_dict'].items():
        torch.testing.assert_close(
            two['state_dict'][name], value, rtol=1e-5, atol=1e-6)

    printed = run(project, *train, '--resume', '--cfg-options',
                  'train_cfg.max_epochs=2')
    assert 'resumed epoch: 1' in printed
    assert 'Epoch(train) [1]' not in printed and 'Epoch(train) [2]' in printed
    # One process would have taken two steps an epoch; two share them.
    assert '[2][1/1]' in printed

    printed = run(project, *train, '--resume', 'dist/epoch_1.pth', '--cfg-options',
                  'train_cfg.max_epochs=2', 'work_dir=ignored')
    assert 'dist/epoch_1.pth' in printed and 'Epoch(train) [2]' in printed

    printed = run(project, 'dist_test.sh', 'classify.py', 'dist/epoch_2.pth',
                  2, '--out', 'dist.pkl', '--work-dir', 'dist')
    assert 'accuracy/top1' in printed
    with open(project / 'dist.pkl', 'rb') as file:
        assert len(pickle.load(file)) == 8


@pytest.mark.slow
def test_slurm_launcher_on_two_processes(project, tmp_path):
    """A stand-in for srun starts the tasks with SLURM's environment."""
    srun = tmp_path / 'srun'
    srun.write_text('''#!/usr/bin/env bash
while [ "$1" != python ]; do shift; done
export SLURM_NTASKS=2 SLURM_NODELIST='node[1-2]' MASTER_PORT=0
MASTER_PORT=$(python -c 'import socket; s = socket.socket(); s.bind(("", 0))
print(s.getsockname()[1])')
SLURM_PROCID=0 SLURM_LOCALID=0 "$@" & first=$!
SLURM_PROCID=1 SLURM_LOCALID=1 "$@" && wait $first
''')
    scontrol = tmp_path / 'scontrol'
    scontrol.write_text('#!/bin/sh\n[ "$3" = "node[1-2]" ] && '
                        'printf "127.0.0.1\\nnode2\\n"\n')
    for program in (srun, scontrol):
        program.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), str(Path(sys.executable).parent),
                            os.environ['PATH']])
    printed = run(project, 'slurm_train.sh', 'cpu', 'job', 'classify.py',
                  'slurm', PATH=path, GPUS='2')
    assert 'Epoch(train) [1][1/1]' in printed
    assert (project / 'slurm/epoch_1.pth').exists()
