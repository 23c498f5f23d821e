"""What must stay as it is between the lives of a run, for it to be exact."""
from logging import Logger

from mmengine.dist import get_world_size
from torch.utils.data import DataLoader


def run_setting(loader: DataLoader) -> dict:
    """Plain numbers about processes, batches and workers."""
    batch_size = getattr(loader.batch_sampler, 'batch_size', 1)
    sampler = getattr(loader.batch_sampler, 'sampler', None)
    return dict(
        world_size=get_world_size(),
        total_batch=batch_size * get_world_size(),
        batches_per_epoch=len(loader),
        num_workers=loader.num_workers,
        sampler_seed=getattr(sampler, 'seed', None))


def report_changes(logger: Logger, before: dict, now: dict) -> None:
    """Say what a change of the setting makes inexact.

    Args:
        logger (Logger): Of the run.
        before (dict): :func:`run_setting` when the checkpoint was written.
        now (dict): The present one.
    """
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
    if before['total_batch'] != now['total_batch']:
        logger.warning(
            f"Resuming with batches of {now['total_batch']} instead of "
            f"{before['total_batch']} images is not exact: there will be "
            'another number of updates, with the learning rates of the config.')
    if before['batches_per_epoch'] != now['batches_per_epoch']:
        logger.warning(
            f"An epoch has {now['batches_per_epoch']} instead of "
            f"{before['batches_per_epoch']} iterations now. Training goes on "
            'at the same image of it, with iteration-based schedules '
            'stretched accordingly.')
