"""Options and keys that nothing reads are refused, with the one that is read."""
import warnings
from pathlib import Path

import mmpretrain
import pytest
from mmengine.config import Config
from toy_projects import CLASSIFICATION

import mixedae_mm
from mixedae_mm.config.unread import check_keys, check_options
from mixedae_mm.config.values import check_values
from mixedae_mm.utils.errors import ConfigurationError


@pytest.fixture
def cfg():
    return Config.fromstring(CLASSIFICATION, '.py')


@pytest.fixture(scope='module')
def pretraining():
    return Config.fromfile(mixedae_mm.config_path('mixedae_vitb_folder'))


def refusal(check, *arguments):
    with pytest.raises(ConfigurationError) as error:
        check(*arguments)
    return str(error.value)


@pytest.mark.parametrize('option, instead', [
    # Misspelt, at any depth.
    ('train_dataloder.batch_size', 'train_dataloader.batch_size'),
    ('train_dataloader.batchsize', 'train_dataloader.batch_size'),
    ('train_cfg.max_epoch', 'train_cfg.max_epochs'),
    ('default_hooks.checkpont.interval', 'default_hooks.checkpoint.interval'),
    ('env_cfg.cudn_benchmark', 'env_cfg.cudnn_benchmark'),
    ('auto_scale_lr.base_batchsize', 'auto_scale_lr.base_batch_size'),
    ('optim_wrapper.clip_grad.max_nrm', 'optim_wrapper.clip_grad.max_norm'),
    ('optim_wrapper.paramwise_cfg.norm_decay', 'norm_decay_mult'),
    # A part of a longer key.
    ('backbone.with_cp', 'model.backbone.with_cp'),
    ('optimizer.lr', 'optim_wrapper.optimizer.lr'),
    ('batch_size', 'train_dataloader.batch_size'),
    ('lr', 'optim_wrapper.optimizer.lr'),
    # Helper variables of the file, and of others like it.
    ('train_pipeline.0.type', 'train_dataloader.dataset.pipeline.0.type'),
    ('launcher', '--launcher 1'),
    ('vis_backends.0.type', 'visualizer.vis_backends.0.type'),
    ('pipeline.0.color_type', 'train_dataloader.dataset.pipeline.0.color_type'),
    # Nothing is like them.
    ('env_cfg.anything', 'there are cudnn_benchmark, mp_cfg'),
    ('nothing.like_it', 'train_dataloader'),
])
def test_what_is_read_instead(cfg, option, instead):
    message = refusal(check_options, cfg, {option: 1})
    assert option in message and instead in message.partition(option)[2]


@pytest.mark.parametrize('option, instead', [
    ('train_pipeline.1.scale', 'set train_dataloader.dataset.pipeline.1.scale instead'),
    ('data_preprocessor.mix_ratio', 'set model.data_preprocessor.mix_ratio instead'),
    ('mix_ratio', 'did you mean model.data_preprocessor.mix_ratio?'),
])
def test_the_options_of_pretraining(pretraining, option, instead):
    assert instead in refusal(check_options, pretraining, {option: 0.5})


@pytest.mark.parametrize('option, value, allowed', [
    ('train_dataloader.sampler.shuffle', 'no', 'True or False'),
    ('default_hooks.logger.interval', 'often', 'number'),
])
def test_text_in_the_place_of_something_else(cfg, option, value, allowed):
    message = refusal(check_options, cfg, {option: value})
    assert option in message and repr(value) in message and allowed in message


@pytest.mark.parametrize('option, value', [
    ('model.backbone.init_cfg.type', 'Pretrained'),
    ('model.backbone.with_cls_token', False),
    ('model.backbone.arch', 'deit-tiny'),
    ('train_dataloader.drop_last', True),
    ('optim_wrapper.paramwise_cfg.custom_keys..ln.decay_mult', 0),
    ('optim_wrapper.paramwise_cfg._delete_', True),
    ('optim_wrapper.loss_scale', 'dynamic'),
    ('default_hooks.ema.type', 'EMAHook'),
    ('train_dataloader.dataset.pipeline.0.color_type', 'grayscale'),
    ('data_preprocessor.mean', [0, 0, 0]),  # the model has none of its own
    ('model_wrapper_cfg.type', 'MMDistributedDataParallel'),
    ('param_scheduler', []),
    ('compile', True),
    ('tta_model.type', 'AverageClsScoreTTA'),
    ('load_from', 'a.pth'),
])
def test_what_can_be_set(cfg, option, value):
    check_options(cfg, {option: value})


def test_a_runner_of_ones_own_may_read_any_key(cfg):
    cfg.runner_type = 'MyRunner'
    check_options(cfg, {'my_key': 3})


@pytest.mark.parametrize('line, meant', [
    ('train_dataloder = dict(batch_size=4)', 'train_dataloader'),
    ('default_hook = dict(checkpoint=None)', 'default_hooks'),
    ('optim_wraper = dict(optimizer=dict(lr=1))', 'optim_wrapper'),
    ('env_cfg = dict(cudn_benchmark=True)', 'env_cfg.cudnn_benchmark'),
    ('auto_scale_lr = dict(base_batchsize=4)', 'auto_scale_lr.base_batch_size'),
])
def test_a_misspelt_key_of_a_file(line, meant):
    message = refusal(check_keys, Config.fromstring(line, '.py'))
    assert line.partition(' ')[0] in message and f'did you mean {meant}?' in message


def test_helper_variables_of_a_file_may_have_any_name():
    check_keys(Config.fromstring(
        'test_pipeline = train_pipeline = [1]\ndata_root = "a"\nnorm_cfg = dict(a=1)\n'
        # Like a key that is read, but it is used where it is.
        'models = dict(type="A")\nmodel = dict(type="B", part=models)\n', '.py'))


SITE = Path(mmpretrain.__file__).parents[1]
ZOO = [path for toolbox in ('mmpretrain', 'mmseg', 'mmdet')
       for path in sorted((SITE / toolbox / '.mim/configs').rglob('*.py'))[7::40]
       if '_base_' not in path.parts]


@pytest.mark.slow
@pytest.mark.parametrize('path', ZOO, ids=lambda path: str(path.relative_to(SITE)))
def test_configs_of_the_toolboxes_are_let_through(path):
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
        except FileNotFoundError:  # a base that the toolbox does not install
            pytest.skip('the config inherits a file that is not there')
    check_keys(cfg)
    check_values(cfg)


@pytest.mark.parametrize('key, value, allowed', [
    *(('train_dataloader.batch_size', value, 'integer of at least 1')
      for value in (0, 'x', 4.0, None)),
    *((f'{name}_dataloader.num_workers', value, 'integer of at least 0')
      for name in ('train', 'val', 'test') for value in (-1, 'x', 2., 2.5, None)),
    *(('optim_wrapper.accumulative_counts', value, 'integer of at least 1')
      for value in (0, 2.5, True, float('inf'), float('nan'))),
    *((f'optim_wrapper.optimizer.{key}', value, 'number of at least 0')
      for key in ('lr', 'weight_decay')
      for value in ('abc', -1, True, float('inf'), float('nan'))),
    ('train_dataloader.persistent_workers', 'no', 'True or False'),
    ('train_cfg.max_epochs', 0, 'at least 1'),
    ('train_cfg.val_interval', 'x', 'at least 1'),
    ('auto_scale_lr.base_batch_size', 0, 'above 0'),
    # Text counts as True.
    ('auto_scale_lr.enable', 'no', 'True or False'),
    ('resume', 'auto', 'True or False'),
    ('env_cfg.cudnn_benchmark', 'off', 'True or False'),
    ('model', 'MixedAE', 'a dict'),
    ('optim_wrapper', 'AdamW', 'a dict'),
    ('custom_hooks', dict(type='EMAHook'), 'a list'),
    ('work_dir', 3, 'text'),
])
def test_values_that_are_not_allowed(cfg, key, value, allowed):
    cfg.merge_from_dict({key: value})
    message = refusal(check_values, cfg)
    assert key in message and repr(value) in message and allowed in message


def test_values_that_are_allowed(cfg, pretraining):
    cfg.train_cfg.val_interval = 57300.0  # as a quotient in a config of mmdet
    check_values(cfg)
    check_values(pretraining)
