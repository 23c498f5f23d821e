"""A loader must give at least one batch, and batches must be whole groups."""
from typing import Sized, cast

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_world_size
from torch.utils.data import DataLoader

from ...utils.errors import ConfigurationError


def check_batches(loader: DataLoader, name: str, by_epoch: bool,
                  group_size: int = 1, evaluates: bool = False) -> None:
    """Refuse a loader that gives no batch, one that cannot be mixed, or too few.

    Args:
        loader (DataLoader): Of this process.
        name (str): What the config calls it.
        by_epoch (bool): Whether the loop counts epochs. One that counts iterations
            can take batches from a sampler that never ends.
        group_size (int): Images that are mixed; batches are multiples of it.
        evaluates (bool): Whether results are computed of its images.
    """
    batches = getattr(loader, 'batch_sampler', None)
    sampler = getattr(batches, 'sampler', getattr(loader, 'sampler', None))
    batch_size = getattr(batches, 'batch_size', None)
    if sampler is None or batch_size is None:
        return
    if batch_size % group_size:
        raise ConfigurationError(
            f'{name}.batch_size is {batch_size}, but groups of {group_size} images '
            f'are mixed: give a multiple of {group_size}.')
    endless = 'Infinite' in type(sampler).__name__ or isinstance(
        sampler, InfiniteSampler)
    if endless and not by_epoch:
        return
    own, processes = len(sampler), get_world_size()
    if len(loader) == 0:
        largest = own // group_size * group_size
        advice = (f'set {name}.batch_size to at most {largest}'
                  + (f', a multiple of {group_size}' if group_size > 1 else '')
                  if largest else f'give at least {group_size * processes} images')
        raise ConfigurationError(
            f'{name} gives no batch: its {len(cast(Sized, loader.dataset))} images'
            + (f', {own} per process,' if processes > 1 else '')
            + f' are fewer than batch_size={batch_size}, and drop_last leaves out what '
            f'does not fill a batch; {advice}.')
    left = own % batch_size
    drops = getattr(batches, 'drop_last', False)
    if evaluates and drops and left:
        raise ConfigurationError(
            f'{name}.drop_last is True, but would leave out the last {left} of {own} '
            'images, and results must be of all: set it to False.')
    if not drops and left % group_size:
        raise ConfigurationError(
            f'The last batch of {name} has {left} images, since {own} per process make '
            f'batches of {batch_size}, but groups of {group_size} are mixed: set '
            f'{name}.drop_last=True.')
