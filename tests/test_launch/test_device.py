"""What the launch changes in a config for the GPU, which is simulated here."""
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import torch
from mmengine._strategy import BaseStrategy, DDPStrategy, SingleDeviceStrategy
from mmengine.config import Config
from torch import nn

from mixedae_mm.engine.hooks.checked_loading_hook import drop_empty_loss_scaler
from mixedae_mm.engine.resume.rank_state import is_sharded
from mixedae_mm.launch.device import choose_precision
from mixedae_mm.launch.train import apply_options, parse_arguments

UNSCALED = dict(enabled=False)


@pytest.fixture(params=[(7, 5), (8, 0), (9, 0)])
def capability(request, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: request.param)
    # Newer PyTorch counts what it can imitate on an old GPU, too.
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: True)
    return request.param


def wrapper(**settings):
    return Config(dict(optim_wrapper=dict(type='AmpOptimWrapper', **settings)))


@pytest.mark.parametrize('settings', [
    dict(), dict(loss_scale='dynamic'), dict(dtype=None, loss_scale=512.)])
def test_a_recent_gpu_computes_in_bfloat16_without_loss_scaling(capability, settings):
    cfg = wrapper(**settings)
    sentence = choose_precision(cfg)
    if capability < (8, 0):
        assert cfg.optim_wrapper == wrapper(**settings).optim_wrapper
        assert 'float16' in sentence
        return
    assert cfg.optim_wrapper.dtype == 'bfloat16'
    assert cfg.optim_wrapper.loss_scale == UNSCALED
    assert 'bfloat16' in sentence and 'optim_wrapper.dtype=float16' in sentence
    before = cfg.optim_wrapper.to_dict()
    choose_precision(cfg)  # again, from the config that a run has saved
    assert cfg.optim_wrapper.to_dict() == before


def test_a_pytorch_without_bfloat16_keeps_float16(capability, monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda: False)
    cfg = wrapper(loss_scale='dynamic')
    assert 'float16' in choose_precision(cfg)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')


@pytest.mark.parametrize('detector', [
    dict(default_scope='mmdet'), dict(model=dict(type='mmdet.MaskRCNN')),
    dict(default_scope='mmpretrain', model=dict(type='mmdet.MaskRCNN')),
    dict(default_scope='mmpretrain', model=dict(neck=dict(
        type=type('FPN', (), dict(__module__='mmdet.models')))))])
def test_detectors_stay_in_float16(capability, detector):
    """mmcv's RoIAlign on a GPU has no bfloat16."""
    cfg = Config(dict(wrapper(), **detector))
    assert 'float16' in choose_precision(cfg)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper')


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_what_the_config_chooses_stays(capability, dtype):
    cfg = wrapper(dtype=dtype, loss_scale='dynamic')
    assert dtype in choose_precision(cfg)
    assert cfg.optim_wrapper == dict(
        type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic')


def test_float32_and_runs_without_an_optimizer_are_left_alone(capability):
    for cfg in (Config(dict(optim_wrapper=dict(type='OptimWrapper'))), Config()):
        before = cfg.to_dict()
        assert choose_precision(cfg) is None
        assert cfg.to_dict() == before


def scaler(enabled):
    try:
        return torch.amp.GradScaler('cpu', enabled=enabled)
    except (AttributeError, TypeError):  # PyTorch 2.1
        return torch.cuda.amp.GradScaler(enabled=enabled)


@pytest.mark.parametrize('before', [True, False])
@pytest.mark.parametrize('after', [True, False])
def test_a_run_resumes_with_or_without_loss_scaling(before, after, monkeypatch):
    """As ``AmpOptimWrapper`` saves and loads, which needs a GPU to be built."""
    from mmengine.optim import AmpOptimWrapper
    parameter = nn.Parameter(torch.ones(2))
    old, new = (AmpOptimWrapper.__new__(AmpOptimWrapper) for _ in range(2))
    for each, enabled in ((old, before), (new, after)):
        each.optimizer = torch.optim.SGD([parameter], lr=0.5)
        each.loss_scaler = scaler(enabled)
        each.base_param_settings = None
    checkpoint = dict(optimizer=old.state_dict())
    drop_empty_loss_scaler(checkpoint)
    new.optimizer.param_groups[0]['lr'] = 0.1
    new.load_state_dict(checkpoint['optimizer'])
    assert new.optimizer.param_groups[0]['lr'] == 0.5


@pytest.mark.parametrize('kind, sharded', [
    (SingleDeviceStrategy, False), (DDPStrategy, False), (BaseStrategy, True)])
def test_a_strategy_derived_from_another_holds_weights_as_that_one_does(kind, sharded):
    own = Mock(spec=type('Own', (kind, ), {}))
    assert is_sharded(SimpleNamespace(model=nn.Linear(1, 1), strategy=own)) == sharded


# ---------------------------------------------------------------- --compile


@pytest.mark.parametrize('hooks, position', [
    (None, 0),
    ([dict(type='EMAHook')], 1),
    ([dict(type='mmengine.CompileHook', mode='x'), dict(type='EMAHook')], 0)])
@pytest.mark.parametrize('option', ['--compile', '--no-compile', None])
def test_compiling_is_switched_by_an_option(hooks, position, option):
    cfg = Config(dict(model=dict(), train_dataloader=dict(), train_cfg=dict(),
                      optim_wrapper=dict(), custom_hooks=hooks))
    apply_options(cfg, parse_arguments(['x.py', *([option] if option else [])]))
    if option is None:
        assert cfg.custom_hooks == hooks
        return
    switched = [dict(hook) for hook in hooks or ()]
    if position == len(switched):
        switched.append(dict(type='CompileHook'))
    switched[position]['enabled'] = option == '--compile'
    assert cfg.custom_hooks == switched
