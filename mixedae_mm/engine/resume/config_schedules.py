"""The config's rates and schedules, also where a run is resumed with others."""
import warnings
from typing import Any, Dict, Iterable, Iterator, List, Tuple

from mmengine.optim import BaseOptimWrapper, OptimWrapperDict

from ...utils.errors import ConfigurationError

# What a scheduler's state has beside its settings.
POSITION = ('last_step', '_global_step', '_last_value', 'base_values', 'best',
            'num_bad_epochs', 'cooldown_counter')
IDENTITY = ('params', 'param_names')  # which parameters a group has


def follow_config(runner, checkpoint: dict) -> None:
    """Let a changed config decide rates and schedules, not the checkpoint.

    mmengine restores both from the checkpoint: a longer cosine, another
    learning rate or weight decay in the config would not be used. Here they are
    what they would be at this iteration of a run with the present config. If
    nothing has changed, the checkpoint stays as it is.

    Args:
        runner (Runner): With optimizer and schedulers of the present config,
            which have not been stepped yet.
        checkpoint (dict): Its ``optimizer`` and ``param_schedulers`` are changed
            in place; ``meta`` must have the present ``iter`` and ``epoch``.

    Raises:
        ConfigurationError: If the parameters are grouped in another way.
    """
    for wrapper, schedulers, saved, saved_schedulers in _parts(runner, checkpoint):
        groups = _pairs(wrapper, saved)
        changes: Dict[str, str] = {}
        for fresh, old in reversed(groups):  # the plain rates first
            now, before = _settings(fresh), _settings(old)
            # Another PyTorch may have settings more or less.
            changes = {**_differences(now, before, now.keys() & before.keys()),
                       **changes}
        same = []
        for index, scheduler in enumerate(schedulers):
            old = saved_schedulers[index] if index < len(saved_schedulers) else {}
            now, before = _settings(scheduler.state_dict()), _settings(old)
            found = _differences(now, before, now.keys() | before.keys())
            same.append(not found)
            if found:
                changes[f'schedule {index}'] = (
                    f'{type(scheduler).__name__} with {", ".join(found.values())}')
        if len(saved_schedulers) > len(schedulers):
            changes['number'] = (f'{len(schedulers)} schedules instead of '
                                 f'{len(saved_schedulers)}')
        if not changes:
            continue
        what = '; '.join(changes.values())
        if any(getattr(scheduler, 'need_val_args', False) for scheduler in schedulers):
            runner.logger.warning(
                f'The config has changed ({what}), but rates and '
                'schedules stay those of the checkpoint, because they depend on its '
                'evaluations. To use those of the config, start anew from the '
                'weights: load_from=CHECKPOINT without --resume.')
            continue
        done = checkpoint['meta']
        steps = [
            done['epoch'] if scheduler.by_epoch else
            # One in iterations goes on where it was if an epoch has more of them.
            saved_schedulers[index]['_global_step'] if same[index] else done['iter']
            for index, scheduler in enumerate(schedulers)
        ]
        _advance(schedulers, steps, done['iter'], len(runner.train_dataloader))
        for fresh, old in groups:
            identity = {key: old[key] for key in IDENTITY if key in old}
            old.clear()
            old.update(fresh, **identity)
        saved_schedulers[:] = [scheduler.state_dict() for scheduler in schedulers]
        runner.logger.warning(
            'Rates and schedules are those of the config, not of the checkpoint, '
            f'from iteration {done["iter"] + 1} on: {what}.')


def _parts(runner, checkpoint: dict) -> Iterator[
        Tuple[BaseOptimWrapper, List[Any], dict, List[dict]]]:
    """Each optimizer and its schedulers, with the saved state of both."""
    wrapper, schedulers = runner.optim_wrapper, runner.param_schedulers
    if 'optimizer' not in checkpoint or not isinstance(wrapper, BaseOptimWrapper):
        return
    if not isinstance(wrapper, OptimWrapperDict):
        saved = checkpoint.setdefault('param_schedulers', [])
        yield wrapper, schedulers or [], checkpoint['optimizer'], saved
        return
    saved = checkpoint.setdefault('param_schedulers', {})
    for name, part in wrapper.items():
        yield (part, (schedulers or {}).get(name, []),
               checkpoint['optimizer'][name], saved.setdefault(name, []))


def _pairs(wrapper: BaseOptimWrapper, saved: dict) -> List[Tuple[dict, dict]]:
    """Parameter groups of the config with those of the checkpoint."""
    # Such as of constructors that merge groups, when older states are loaded.
    for adapt in getattr(wrapper.optimizer, '_optimizer_load_state_dict_pre_hooks',
                         {}).values():
        saved.update(adapt(wrapper.optimizer, saved) or {})
    fresh, old = wrapper.optimizer.param_groups, saved['param_groups']
    kinds, old_kinds = ([(len(group['params']), group.get('layer_id'))
                         for group in groups] for groups in (fresh, old))
    if kinds != old_kinds:
        raise ConfigurationError(
            f'optim_wrapper makes {len(fresh)} groups of parameters, but the '
            f'checkpoint has {len(old)}, or others: resume with the constructor, '
            'paramwise_cfg and frozen parameters that it was written with, or start '
            'anew from its weights (load_from without --resume)')
    pairs = list(zip(fresh, old))
    # The plain rates that mmengine logs.
    base, old_base = wrapper.base_param_settings, saved.get('base_param_settings')
    return pairs + ([(base, old_base)] if base and old_base else [])


def _settings(state: dict) -> dict:
    """What a config says, of a group or a scheduler: not what schedules make of it."""
    settings = {
        key: state.get(f'initial_{key}', value) for key, value in state.items()
        if key not in IDENTITY + POSITION and not key.startswith('initial_')
    }
    if 'betas' in settings:  # the first one may be scheduled as "momentum"
        first = settings.pop('momentum', settings['betas'][0])
        settings['betas'] = first, settings['betas'][1]
    return settings


def _differences(now: dict, before: dict, keys: Iterable[str]) -> Dict[str, str]:
    return {
        key: f'{key} {now.get(key)} instead of {before.get(key)}'
        for key in sorted(keys) if now.get(key) != before.get(key)
    }


def _advance(schedulers: List[Any], steps: List[int], iterations: int,
             epoch_length: int) -> None:
    """Step schedulers in the order in which a run would have.

    Args:
        schedulers (list): Not stepped yet.
        steps (list[int]): How often each is stepped, evenly over the run, or
            at the ends of the epochs if it counts those.
        iterations (int): Of the run so far.
        epoch_length (int): In iterations.
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
