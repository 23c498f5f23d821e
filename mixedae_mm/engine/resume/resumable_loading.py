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

    Skipped batches are drawn from the sampler but not loaded: about a million indices
    per second. Each index tells when it was drawn: the pass over the data and the
    place in the sampler's order, counted over all ranks. Seeded by that, a data set
    augments as if nothing had been loaded before, and an image that is drawn twice in
    a pass in two ways.

    Args:
        batch_sampler (Iterable[list[int]]): The dataloader's own. Its attributes are
            those of this one, too.
        dataset (Dataset): It, and those in it, are told the pass by ``set_epoch``.
    """

    def __init__(self, batch_sampler, dataset) -> None:
        self.batch_sampler, self.dataset = batch_sampler, dataset
        self.rank, self.world_size = get_rank(), get_world_size()
        self.start_pass(0)

    def __getattr__(self, name: str) -> Any:
        if name.startswith('__') or name == 'batch_sampler':  # while unpickling
            raise AttributeError(name)
        return getattr(self.batch_sampler, name)

    def __len__(self) -> int:
        return len(self.batch_sampler)

    @property
    def sampler(self):
        """The batch sampler's, or None: mmengine asks any batch sampler for it."""
        return getattr(self.batch_sampler, 'sampler', None)

    def start_pass(self, epoch: int, first_batch: int = 0) -> None:
        """Start the next iteration in pass ``epoch``, after its first batches."""
        self.epoch, self.first_batch = epoch, first_batch
        for part in (self.sampler, *_nested(self.dataset)):
            if hasattr(part, 'set_epoch'):
                part.set_epoch(epoch)
        restart(self.sampler)

    def __iter__(self) -> Iterator[List[SampleIndex]]:
        first_batch, drawn = self.first_batch, self.epoch * MOST_DRAWS + self.rank
        for number, batch in enumerate(self.batch_sampler):
            if number >= first_batch:
                yield [SampleIndex(index, drawn + self.world_size * offset)
                       for offset, index in enumerate(batch)]
            drawn += self.world_size * len(batch)


class EndlessBatches(chain):
    """The batches of an iteration-based loop, in place of mmengine's iterator."""

    def skip_iter(self, num_iters: int) -> None:
        """How mmengine 0.10.12 fast-forwards. We are there already."""


def endless_batches(dataloader: DataLoader, first_batch: int,
                    placeholders: int = 0) -> EndlessBatches:
    """Load pass after pass, from any batch on.

    Args:
        dataloader (DataLoader): Of :func:`resumable`.
        first_batch (int): Batches that the run has consumed.
        placeholders (int): How many times the loop asks for a batch to throw away.
            mmengine 0.10.7 fast-forwards like that.
    """
    return EndlessBatches(repeat(None, placeholders), _passes(dataloader, first_batch))


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
        DataLoader, optional: With a :class:`ResumableBatchSampler`. None if there is
        no order to restore: without a batch sampler, or with an iterable data set.
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
    """Build a dataloader like another one, but for the arguments in ``changes``."""
    arguments = {
        name: getattr(dataloader, name)
        for name in inspect.signature(DataLoader.__init__).parameters
        if name not in BATCHING and hasattr(dataloader, name)}
    return type(dataloader)(**{
        **arguments, 'batch_sampler': dataloader.batch_sampler, **changes})


def restart(sampler) -> None:
    """Let an endless sampler, which draws from one generator for ever, start again.

    mmengine 0.10.7 draws from it before training starts.
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
