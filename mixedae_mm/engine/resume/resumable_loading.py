"""Data loading that starts at any batch and does not depend on workers."""
import inspect
from itertools import chain, count, repeat
from typing import Any, Iterator, List, Optional

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader, IterableDataset

from ...datasets import SampleIndex, SampleSeededDataset, SampleSeeding

MOST_DRAWS = 2**40  # of one pass over the data
# Arguments of a DataLoader that a batch sampler stands for.
BATCHING = ('batch_size', 'shuffle', 'sampler', 'batch_sampler', 'drop_last')


class ResumableBatchSampler:
    """The batches of another batch sampler, from any one on.

    Skipped batches are drawn from the sampler but not loaded: about a million
    indices per second.

    Each index tells when it was drawn: the pass over the data and the place
    in the sampler's order, counted over all ranks. A data set that seeds its
    samples by that augments each as if nothing had been loaded before, and
    an image that is drawn twice in a pass in two ways.

    Args:
        batch_sampler (Iterable[list[int]]): The dataloader's own.
        dataset (Dataset): Told the pass as well, if it has ``set_epoch``.
    """

    def __init__(self, batch_sampler, dataset) -> None:
        self.batch_sampler, self.dataset = batch_sampler, dataset
        self.rank, self.world_size = get_rank(), get_world_size()
        self.start_pass(0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batch_sampler':
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)  # batch_size, drop_last, ...

    def __len__(self) -> int:
        return len(self.batch_sampler)

    @property
    def sampler(self):
        """The sampler of indices, None if the batch sampler hides it."""
        return getattr(self.batch_sampler, 'sampler', None)

    def start_pass(self, epoch: int, first_batch: int = 0) -> None:
        """Say where the next iteration starts.

        Args:
            epoch (int): The pass over the data, counted from 0.
            first_batch (int): How many batches of it to skip.
        """
        self.epoch, self.first_batch = epoch, first_batch
        for part in (self.sampler, *_nested(self.dataset)):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(epoch)
        restart(self.sampler)

    def __iter__(self) -> Iterator[List[SampleIndex]]:
        first_batch, drawn = self.first_batch, self.epoch * MOST_DRAWS + self.rank
        for number, batch in enumerate(self.batch_sampler):
            if number >= first_batch:
                yield [
                    SampleIndex(index, drawn + self.world_size * offset)
                    for offset, index in enumerate(batch)
                ]
            drawn += self.world_size * len(batch)


class EndlessBatches:
    """Batches of an iteration-based loop, pass after pass.

    Takes the place of the iterator of mmengine's loop, which cannot start in
    the middle without loading what it skips.

    Args:
        dataloader (DataLoader): Of :func:`resumable`.
        first_batch (int): Batches that the run has consumed.
        placeholders (int): How many times the loop will ask for a batch to
            throw away. mmengine 0.10.7 fast-forwards like that.
    """

    def __init__(self, dataloader: DataLoader, first_batch: int,
                 placeholders: int) -> None:
        self.batches = chain(
            repeat(None, placeholders), _passes(dataloader, first_batch))

    def __iter__(self) -> 'EndlessBatches':
        return self

    def __next__(self) -> Any:
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """How mmengine 0.10.12 fast-forwards. We are there already."""


def _passes(dataloader: DataLoader, first_batch: int) -> Iterator[Any]:
    order: Any = dataloader.batch_sampler  # a ResumableBatchSampler
    epoch = 0
    if not isinstance(order.sampler, InfiniteSampler):  # whose one pass never ends
        epoch, first_batch = divmod(first_batch, len(dataloader))
    for number in count(epoch):
        order.start_pass(number, first_batch)
        yield from dataloader
        first_batch = 0


def resumable(dataloader: DataLoader, seed: int) -> Optional[DataLoader]:
    """Make a dataloader that can start at any batch out of another one.

    Args:
        dataloader (DataLoader): Any.
        seed (int): Of the augmentation; equal on all ranks.

    Returns:
        DataLoader, optional: With a :class:`ResumableBatchSampler`. None if
        the loader has no batch sampler or an iterable data set: then there is
        no order to restore.
    """
    dataset: Any = dataloader.dataset
    if dataloader.batch_sampler is None or isinstance(dataset, IterableDataset):
        return None
    if not isinstance(dataset, SampleSeeding):
        dataset = SampleSeededDataset(dataset)
    if dataset.seed is None:
        dataset.seed = seed
    return rebuilt(dataloader, dataset=dataset, batch_sampler=ResumableBatchSampler(
        dataloader.batch_sampler, dataset))


def rebuilt(dataloader: DataLoader, **changes) -> DataLoader:
    """Build a dataloader like another one, whose workers may run already.

    Args:
        dataloader (DataLoader): With a batch sampler.
        **changes: Arguments of :class:`torch.utils.data.DataLoader` to change.
    """
    arguments = {
        name: getattr(dataloader, name)
        for name in inspect.signature(DataLoader.__init__).parameters
        if name not in BATCHING and hasattr(dataloader, name)
    }
    arguments['batch_sampler'] = dataloader.batch_sampler
    return type(dataloader)(**{**arguments, **changes})


def restart(sampler) -> None:
    """Let an endless sampler start again.

    It draws from one generator for ever, and mmengine 0.10.7 takes from that
    before training starts.
    """
    if isinstance(sampler, InfiniteSampler):
        sampler.indices = sampler._indices_of_rank()


def _nested(dataset) -> Iterator[Any]:
    """A data set and those that it wraps, in mmengine's ways of wrapping."""
    yield dataset
    inside = getattr(dataset, '__dict__', {})
    for child in (inside.get('dataset'), inside.get('_dataset'),
                  *inside.get('datasets', ())):
        if child is not None:
            yield from _nested(child)
