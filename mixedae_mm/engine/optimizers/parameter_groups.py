"""Few parameter groups: parameters with equal settings share one.

mmengine and mmpretrain make one group per parameter, and an optimizer updates group
by group: with 255 groups of ViT-B a fused AdamW is launched 255 times per step.
"""
import logging
from contextlib import contextmanager
from typing import Dict, Iterator, List, Tuple

from mmengine.logging import MMLogger, print_log
from torch.optim import Optimizer

from ...utils.errors import ConfigurationError


def merge_equal_groups(single: List[dict]) -> List[dict]:
    """Merge groups that differ in their parameters only, in order of appearance.

    >>> merge_equal_groups([dict(params=['w'], lr=1), dict(params=['b'], lr=2),
    ...                     dict(params=['v'], lr=1)])
    [{'lr': 1, 'params': ['w', 'v']}, {'lr': 2, 'params': ['b']}]
    """
    groups: Dict[Tuple, dict] = {}
    for group in single:
        settings = {key: value for key, value in group.items() if key != 'params'}
        key = tuple(sorted((name, repr(value)) for name, value in settings.items()))
        groups.setdefault(key, dict(settings, params=[]))['params'] += group['params']
    return list(groups.values())


def accept_unmerged_states(optimizer: Optimizer, order: List[int]) -> None:
    """Let an optimizer load states that were saved with one group per parameter.

    Loading raises a ConfigurationError if the state has another number of groups,
    neither merged nor one per parameter, or groups of different learning rates, which a
    merged group cannot keep.

    Args:
        optimizer (Optimizer): With merged groups.
        order (list[int]): For each of its parameters, group by group, the place that
            the parameter had before the groups were merged.
    """

    def regroup(optimizer: Optimizer, state_dict: dict) -> dict:
        saved, own = state_dict['param_groups'], optimizer.param_groups
        if len(saved) == len(own):
            return state_dict
        if len(saved) != len(order) or len({group['lr'] for group in saved}) > 1:
            raise ConfigurationError(
                f'the checkpoint has the state of an optimizer with {len(saved)} '
                f'parameter groups, this run has {len(own)}: resume with the '
                'optim_wrapper.constructor that it was trained with, or start a new '
                'run from its weights (load_from).')
        groups, start = [], 0
        for group in own:
            members = list(range(start, start + len(group['params'])))
            groups.append(dict(saved[order[start]], params=members))
            start += len(members)
        place = {old: new for new, old in enumerate(order)}
        state = {place[old]: value for old, value in state_dict['state'].items()}
        return dict(state_dict, state=state, param_groups=groups)

    optimizer.register_load_state_dict_pre_hook(regroup)


@contextmanager
def without_lines_per_parameter() -> Iterator[None]:
    """Keep mmengine from logging every option of every parameter."""

    def is_wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith('paramwise_options -- ')

    logger = MMLogger.get_current_instance()
    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def log_groups(groups: List[dict]) -> None:
    """Say in one line how many parameters are trained with which settings."""
    parts = [
        f'{sum(parameter.numel() for parameter in group["params"]):,} weights with ' +
        ', '.join(f'{name} {group[name]:.4g}' for name in ('lr', 'weight_decay')
                  if group.get(name) is not None) for group in groups]
    print_log(f'{len(groups)} parameter groups: {"; ".join(parts)}', logger='current')
