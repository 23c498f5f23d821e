"""The config's rates and schedules, also where a run is resumed with others."""
import warnings
from typing import Any, Dict, Iterable, List, Tuple

from mmengine.optim import BaseOptimWrapper, OptimWrapperDict

from ...utils.errors import ConfigurationError

# What a scheduler's state has beside its settings.
POSITION = ('last_step', '_global_step', '_last_value', 'base_values', 'best',
            'num_bad_epochs', 'cooldown_counter')
IDENTITY = ('params', 'param_names')  # which parameters a group has


def follow_config(runner, checkpoint: dict) -> None:
    """Let a changed config decide rates and schedules, not the checkpoint.

    mmengine restores both from the checkpoint, so that a longer cosine or another
    learning rate in the config would not be used. Here they are what they would be at
    this iteration of a run with the present config. If nothing has changed, the
    checkpoint stays as it is.

    Args:
        runner (Runner): Its optimizer and schedulers have not been stepped yet.
        checkpoint (dict): ``optimizer`` and ``param_schedulers`` are changed in place;
            ``meta`` must have the present ``iter`` and ``epoch``.

    Raises:
        ConfigurationError: If the parameters are grouped in another way.
    """
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers
    if 'optimizer' not in checkpoint or not isinstance(wrapper, BaseOptimWrapper):
        return
    state, done = checkpoint['optimizer'], checkpoint['meta']
    if isinstance(wrapper, OptimWrapperDict):
        saved = checkpoint.setdefault('param_schedulers', {})
        for name, part in wrapper.items():
            _follow(runner, done, part, (schedulers or {}).get(name, []), state[name],
                    saved.setdefault(name, []))
    else:
        _follow(runner, done, wrapper, schedulers or [], state,
                checkpoint.setdefault('param_schedulers', []))


def _follow(runner, done: dict, wrapper: BaseOptimWrapper, schedulers: List[Any],
            saved_optimizer: dict, saved_schedulers: List[dict]) -> None:
    """Let one optimizer and its schedules follow the config.

    Nothing is returned: ``saved_optimizer`` and ``saved_schedulers``, their states in
    the checkpoint, are changed in place. ``done`` has its ``iter`` and ``epoch``.
    """
    pairs = _pairs(wrapper, saved_optimizer)
    changed_settings: Dict[str, str] = {}
    for configured, saved in pairs:
        now, before = _settings(configured), _settings(saved)
        # Another PyTorch may have settings more or less. If a setting has changed in
        # several pairs, the log names the last one's values: the plain rate.
        changed_settings.update(_differences(now, before, now.keys() & before.keys()))
    changed_schedules: Dict[int, str] = {}
    for index, scheduler in enumerate(schedulers):
        now, before = _settings(scheduler.state_dict()), {}
        if index < len(saved_schedulers):
            before = _settings(saved_schedulers[index])
        differences = _differences(now, before, now.keys() | before.keys())
        if differences:
            changed_schedules[index] = (
                f'{type(scheduler).__name__} with {", ".join(differences.values())}')
    changes = [*changed_settings.values(), *changed_schedules.values()]
    if len(saved_schedulers) > len(schedulers):
        changes.append(
            f'{len(schedulers)} schedules instead of {len(saved_schedulers)}')
    if not changes:
        return
    what = '; '.join(changes)
    if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
        runner.logger.warning(
            f'The config has changed ({what}), but rates and schedules stay those of '
            'the checkpoint, because they depend on its evaluations. To use those of '
            'the config, start anew from the weights: load_from=CHECKPOINT without '
            '--resume.')
        return
    # One in iterations goes on where it was if only an epoch has more of them.
    steps = [done['epoch'] if scheduler.by_epoch else
             done['iter'] if index in changed_schedules else
             saved_schedulers[index]['_global_step']
             for index, scheduler in enumerate(schedulers)]
    _advance(schedulers, steps, done['iter'], len(runner.train_dataloader))
    for configured, saved in pairs:
        identity = {key: saved[key] for key in IDENTITY if key in saved}
        saved.clear()
        saved.update(configured, **identity)
    saved_schedulers[:] = [scheduler.state_dict() for scheduler in schedulers]
    runner.logger.warning(
        'Rates and schedules are those of the config, not of the checkpoint, from '
        f'iteration {done["iter"] + 1} on: {what}.')


def _pairs(wrapper: BaseOptimWrapper, state: dict) -> List[Tuple[dict, dict]]:
    """Each parameter group of the config with the checkpoint's.

    Last the ``base_param_settings`` of both, the plain rates that a config names: a
    group's may be multiples of them.
    """
    # Such as of constructors that merge groups, when older states are loaded.
    for adapt in getattr(wrapper.optimizer, '_optimizer_load_state_dict_pre_hooks',
                         {}).values():
        state.update(adapt(wrapper.optimizer, state) or {})
    fresh, old = wrapper.optimizer.param_groups, state['param_groups']
    kinds, old_kinds = ([(len(group['params']), group.get('layer_id'))
                         for group in groups] for groups in (fresh, old))
    if kinds != old_kinds:
        raise ConfigurationError(
            f'optim_wrapper makes {len(fresh)} groups of parameters, but the '
            f'checkpoint has {len(old)}, or others: resume with the constructor, '
            'paramwise_cfg and frozen parameters that it was written with, or start '
            'anew from its weights (load_from without --resume)')
    base, old_base = wrapper.base_param_settings, state.get('base_param_settings')
    return [*zip(fresh, old), *([(base, old_base)] if base and old_base else [])]


def _settings(state: dict) -> dict:
    """What a config says, of a group or a scheduler: not what schedules make of it."""
    settings = {
        key: state.get(f'initial_{key}', value) for key, value in state.items()
        if key not in IDENTITY + POSITION and not key.startswith('initial_')}
    if 'betas' in settings:  # the first one may be scheduled as "momentum"
        first = settings.pop('momentum', settings['betas'][0])
        settings['betas'] = first, settings['betas'][1]
    return settings


def _differences(now: dict, before: dict, keys: Iterable[str]) -> Dict[str, str]:
    return {key: f'{key} {now.get(key)} instead of {before.get(key)}'
            for key in sorted(keys) if now.get(key) != before.get(key)}


def _advance(schedulers: List[Any], steps: List[int], iterations: int,
             epoch_length: int) -> None:
    """Step fresh schedulers in the order in which a run would have.

    ``steps`` says how often each: evenly over the iterations, or at the ends of epochs.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # that no optimizer step came before
        for now in range(1, iterations + 1):
            for scheduler, count in zip(schedulers, steps):
                if not scheduler.by_epoch and (
                        now * count // iterations > (now - 1) * count // iterations):
                    scheduler.step()
            for scheduler, count in zip(schedulers, steps):
                if (scheduler.by_epoch and now % epoch_length == 0
                        and now // epoch_length <= count):
                    scheduler.step()
