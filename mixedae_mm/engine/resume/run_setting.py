"""What must stay as it is when a run is resumed, for it to be exact."""
from logging import Logger

from mmengine.dist import get_world_size

from ...utils.errors import ConfigurationError


def run_setting(runner) -> dict:
    """Plain numbers and names about processes, batches and updates."""
    loader = runner.train_dataloader
    batch_size = getattr(loader.batch_sampler, 'batch_size', 1)
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    wrapper = runner.optim_wrapper
    return dict(
        world_size=get_world_size(),
        total_batch=batch_size * get_world_size(),
        batches_per_epoch=len(loader),
        num_workers=loader.num_workers,
        sampler_seed=getattr(sampler, 'seed', None),
        accumulative_counts=getattr(wrapper, '_accumulative_counts', 1),
        optimizer=type(getattr(wrapper, 'optimizer', None)).__name__)


def report_changes(logger: Logger, before: dict, now: dict) -> None:
    """Say what a change of the setting makes inexact.

    Args:
        logger (Logger): Of the run.
        before (dict): :func:`run_setting` when the checkpoint was written.
        now (dict): The present one.

    Raises:
        ConfigurationError: If the optimizer is of another type: it cannot go
            on from the state of the old one.
    """
    before = {**now, **before}  # older checkpoints say less
    if before['optimizer'] != now['optimizer']:
        raise ConfigurationError(
            f"optim_wrapper.optimizer is {now['optimizer']}, but the checkpoint "
            f"has the state of {before['optimizer']}: resume with that one, or "
            'start anew from its weights (load_from without --resume)')
    if before['num_workers'] != now['num_workers']:
        logger.info(
            f"Resuming with {now['num_workers']} dataloader workers instead "
            f"of {before['num_workers']}; that changes nothing but the speed.")
    if before['world_size'] != now['world_size']:
        logger.warning(
            f"Resuming with {now['world_size']} processes instead of "
            f"{before['world_size']} is not exact: mixing masks, dropout and "
            'the like are drawn in each process, and gradients are summed in '
            'another order. The order of the images and their augmentation '
            'stay as they were.')
    for name, what, unit in (
            ('total_batch', 'batches', 'images'),
            ('accumulative_counts', 'updates', 'accumulated batches')):
        if before[name] != now[name]:
            logger.warning(
                f'Resuming with {what} of {now[name]} instead of {before[name]} '
                f'{unit} is not exact: there will be another number of updates, '
                'with the learning rates that the config has now.')
    if before['batches_per_epoch'] != now['batches_per_epoch']:
        logger.warning(
            f"An epoch has {now['batches_per_epoch']} instead of "
            f"{before['batches_per_epoch']} iterations now. Training goes on "
            'at the same image of it, with schedules of epochs stretched '
            'accordingly.')


def check_optimizer_state(runner) -> None:
    """Refuse averages of gradients that have another shape than their parameter.

    Parameters may be fitted to another image size when they are loaded; what the
    optimizer knows of them cannot.

    Raises:
        ConfigurationError: If the optimizer would fail at the first update.
    """
    optimizer = getattr(runner.optim_wrapper, 'optimizer', None)
    names = {parameter: name for name, parameter in runner.model.named_parameters()}
    for parameter, state in getattr(optimizer, 'state', {}).items():
        for key in ('exp_avg', 'momentum_buffer'):
            average = state.get(key)
            if average is not None and average.shape != parameter.shape:
                raise ConfigurationError(
                    f'{names.get(parameter, "A parameter")} has the shape '
                    f'{tuple(parameter.shape)} now, but {tuple(average.shape)} in the '
                    'optimizer of the checkpoint: resume with the sizes of its config, '
                    'or start anew from its weights (load_from without --resume)')
