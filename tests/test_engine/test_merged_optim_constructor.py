"""Merged parameter groups: the same updates as with one group per parameter."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.optim import build_optim_wrapper
from torch import nn

import mixedae_mm
from mixedae_mm.utils.errors import ConfigurationError

SINGLE, MERGED = 'DefaultOptimWrapperConstructor', 'MergedOptimWrapperConstructor'


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


def optimizer_of(model, constructor=MERGED, **paramwise):
    recipe = copy.deepcopy(Config.fromfile(
        mixedae_mm.config_path('_base_/optimizers/mae_adamw')).optim_wrapper)
    recipe.optimizer.lr = 1e-2
    recipe.optimizer.pop('fused')  # the oldest PyTorch has it on GPUs only
    recipe.constructor = constructor
    recipe.paramwise_cfg.custom_keys.update(paramwise)
    return build_optim_wrapper(model, recipe)


def train(model, wrapper, seed):
    generator = torch.Generator().manual_seed(seed)
    for _ in range(3):
        wrapper.update_params(model(torch.randn(5, 3, generator=generator)))


def test_the_recipe_makes_two_groups_and_says_so_in_a_line(caplog):
    MMLogger.get_instance('groups').addHandler(caplog.handler)
    model = Parts()
    groups = optimizer_of(model).optimizer.param_groups
    assert [group['weight_decay'] for group in groups] == [0, 0.05]
    names = {parameter: name for name, parameter in model.named_parameters()}
    assert [{names[p] for p in group['params']} for group in groups] == [
        {'cls_token', 'linear.bias', 'ln1.weight', 'ln1.bias'},
        {'linear.weight', 'proj.weight'}]
    lines = [record.getMessage() for record in caplog.records]
    assert not any('paramwise_options' in line for line in lines)
    assert any(line.startswith('2 parameter groups: ') for line in lines)


@pytest.mark.parametrize('constructor', [SINGLE, MERGED])
def test_updates_and_states_are_those_of_one_group_per_parameter(constructor):
    """Also where a state goes on that had a group per parameter."""
    model, merged = Parts(), Parts()
    merged.load_state_dict(model.state_dict())
    wrapper = optimizer_of(model, constructor)
    train(model, wrapper, seed=0)
    train(merged, optimizer_of(merged), seed=0)
    resumed, resumed_wrapper = merged, optimizer_of(merged)
    resumed_wrapper.load_state_dict(copy.deepcopy(wrapper.state_dict()))
    train(model, wrapper, seed=1)
    train(resumed, resumed_wrapper, seed=1)
    for ours, theirs in zip(resumed.parameters(), model.parameters()):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_groups_with_other_rates_are_not_merged_and_not_confused():
    groups = optimizer_of(Parts(), proj=dict(lr_mult=0.1)).optimizer.param_groups
    assert [round(group['lr'], 6) for group in groups] == [0.01, 0.01, 0.001]


def test_a_state_that_merged_groups_cannot_keep_is_refused():
    model = Parts()
    saved = optimizer_of(model, SINGLE, proj=dict(lr_mult=0.1)).state_dict()
    with pytest.raises(ConfigurationError, match='6 parameter groups.* has 2'):
        optimizer_of(model).load_state_dict(saved)
