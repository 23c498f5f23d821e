"""What must stay as it is when a run is resumed, for it to be exact."""
from logging import Logger

from mmengine.dist import get_world_size

from ...utils.errors import ConfigurationError


# What a change of the setting makes inexact: now, before.
WARNINGS = dict(
    world_size='Resuming with {} processes instead of {} is not exact: mixing masks, '
    'dropout and the like are drawn in each process, and gradients are summed in '
    'another order. The order of the images and their augmentation stay as they were.',
    total_batch='Resuming with batches of {} instead of {} images is not exact: there '
    'will be another number of updates, with the learning rates of the config.',
    accumulative_counts='Resuming with updates of {} instead of {} accumulated batches '
    'is not exact: there will be another number of updates, with the learning rates of '
    'the config.',
    batches_per_epoch='An epoch has {} instead of {} iterations now. Training goes on '
    'at the same image of it, with schedules of epochs stretched accordingly.')


def run_setting(runner) -> dict:
    """Plain numbers and names about processes, batches and updates."""
    loader, wrapper = runner.train_dataloader, runner.optim_wrapper
    batch_size = getattr(loader.batch_sampler, 'batch_size', 1)
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    return dict(
        world_size=get_world_size(),
        total_batch=batch_size * get_world_size(),
        batches_per_epoch=len(loader),
        num_workers=loader.num_workers,
        sampler_seed=getattr(sampler, 'seed', None),
        accumulative_counts=getattr(wrapper, '_accumulative_counts', 1),
        optimizer=type(getattr(wrapper, 'optimizer', None)).__name__)


def report_changes(logger: Logger, before: dict, now: dict) -> None:
    """Say what a change from ``before``, the checkpoint's setting, makes inexact.

    Raises:
        ConfigurationError: If the optimizer is of another type: it cannot go on from
            the state of the old one.
    """
    if before['optimizer'] != now['optimizer']:
        raise ConfigurationError(
            f"optim_wrapper.optimizer is {now['optimizer']}, but the checkpoint has "
            f"the state of {before['optimizer']}: resume with that one, or start anew "
            'from its weights (load_from without --resume)')
    if before['num_workers'] != now['num_workers']:
        logger.info(
            f"Resuming with {now['num_workers']} dataloader workers instead of "
            f"{before['num_workers']}; that changes nothing but the speed.")
    for name, sentence in WARNINGS.items():
        if before[name] != now[name]:
            logger.warning(sentence.format(now[name], before[name]))


def check_optimizer_state(runner) -> None:
    """Refuse averages of gradients that have another shape than their parameter.

    Parameters may be fitted to another image size when they are loaded; what the
    optimizer knows of them cannot, and it would fail at the first update.
    """
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    names = {parameter: name for name, parameter in runner.model.named_parameters()}
    for parameter, state in getattr(optimizer, 'state', {}).items():
        average = state.get('exp_avg', state.get('momentum_buffer'))
        if average is not None and average.shape != parameter.shape:
            raise ConfigurationError(
                f'{names.get(parameter, "A parameter")} has the shape '
                f'{tuple(parameter.shape)} now, but {tuple(average.shape)} in the '
                'optimizer of the checkpoint: resume with the sizes of its config, or '
                'start anew from its weights (load_from without --resume)')
