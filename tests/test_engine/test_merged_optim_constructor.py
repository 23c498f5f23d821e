"""Merged parameter groups: the same updates as with one group per parameter."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from torch import nn

import mixedae_mm  # noqa: F401
from mixedae_mm.utils.errors import ConfigurationError


class Parts(nn.Module):
    """A few layers whose names are those that the recipe exempts from decay."""

    def __init__(self):
        super().__init__()
        self.cls_token = nn.Parameter(torch.ones(1, 1, 3))
        self.linear = nn.Linear(3, 4)
        self.ln1 = nn.LayerNorm(4)
        self.proj = nn.Linear(4, 2, bias=False)
        self.pos_embed = nn.Parameter(torch.ones(1), requires_grad=False)

    def forward(self, x):
        return self.proj(self.ln1(self.linear(x + self.cls_token[0]))).square().sum()


def optimizer_of(model, constructor='MergedOptimWrapperConstructor', **paramwise):
    recipe = Config.fromfile(
        mixedae_mm.config_path('_base_/optimizers/mae_adamw')).optim_wrapper
    recipe = copy.deepcopy(recipe)
    recipe.optimizer.lr = 1e-2
    recipe.optimizer.pop('fused')  # the oldest PyTorch has it on GPUs only
    recipe.constructor = constructor
    recipe.paramwise_cfg.custom_keys.update(paramwise)
    return build_optim_wrapper(model, recipe)


def train(model, wrapper, steps, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        wrapper.update_params(model(torch.randn(5, 3, generator=generator)))


def test_the_recipe_makes_two_groups_with_the_settings_of_every_parameter():
    model = Parts()
    groups = optimizer_of(model).optimizer.param_groups
    assert [group['weight_decay'] for group in groups] == [0, 0.05]
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert [{names[p] for p in group['params']} for group in groups] == [
        {'cls_token', 'linear.bias', 'ln1.weight', 'ln1.bias'},
        {'linear.weight', 'proj.weight'}]


def test_weights_are_those_of_one_group_per_parameter():
    merged, single = Parts(), Parts()
    single.load_state_dict(merged.state_dict())
    train(merged, optimizer_of(merged), 3, seed=0)
    train(single, optimizer_of(single, 'DefaultOptimWrapperConstructor'), 3, seed=0)
    for ours, theirs in zip(merged.parameters(), single.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


@pytest.mark.parametrize('constructor', [
    'DefaultOptimWrapperConstructor', 'MergedOptimWrapperConstructor'])
def test_a_state_goes_on_as_if_nothing_had_changed(constructor):
    """Also one with a group per parameter, of earlier versions."""
    model = Parts()
    wrapper = optimizer_of(model, constructor)
    train(model, wrapper, 2, seed=0)
    resumed = copy.deepcopy(model)
    resumed_wrapper = optimizer_of(resumed)
    resumed_wrapper.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(model, wrapper, 2, seed=1)
    train(resumed, resumed_wrapper, 2, seed=1)
    for ours, theirs in zip(resumed.parameters(), model.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_groups_with_other_rates_are_not_merged_and_not_confused():
    groups = optimizer_of(
        Parts(), proj=dict(lr_mult=0.1)).optimizer.param_groups
    assert [round(group['lr'], 6) for group in groups] == [0.01, 0.01, 0.001]


def test_a_state_that_merged_groups_cannot_keep_is_refused():
    model = Parts()
    saved = optimizer_of(model, 'DefaultOptimWrapperConstructor',
                         proj=dict(lr_mult=0.1)).state_dict()
    with pytest.raises(ConfigurationError, match='6 parameter groups.* has 2'):
        optimizer_of(model).load_state_dict(saved)


def test_the_log_has_a_line_instead_of_one_per_option(caplog):
    logger = MMLogger.get_instance('groups')
    logger.addHandler(caplog.handler)
    optimizer_of(Parts())
    lines = [record.getMessage() for record in caplog.records]
    assert not any('paramwise_options' in line for line in lines)
    assert any(line.startswith('2 parameter groups: ') for line in lines)
