"""Data loading that starts at any batch and does not depend on workers."""
from typing import Any, Iterator, List

from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_rank, get_world_size
from torch.utils.data import DataLoader, IterableDataset

from ...datasets import SampleIndex, SampleSeededDataset, SampleSeeding

MOST_DRAWS = 2**40  # of one pass over the data


class ResumableBatchSampler:
    """The batches of another batch sampler, from any one on.

    Skipped batches are drawn from the sampler but not loaded: about a million
    indices a second.

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

    @property
    def endless(self) -> bool:
        """Whether one pass of the sampler never ends."""
        return isinstance(self.sampler, InfiniteSampler)

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
        if self.endless:
            # It draws from one generator for ever, and mmengine 0.10.7 takes
            # from that before training starts.
            self.sampler.indices = self.sampler._indices_of_rank()

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

    Stands in for the iterator of mmengine's loop, which cannot start in the
    middle without loading what it skips.

    Args:
        dataloader (DataLoader): Prepared by :func:`make_resumable`.
        first_batch (int): Batches that the run has consumed.
        placeholders (int): How many times the loop will ask for a batch to
            throw away. mmengine 0.10.7 fast-forwards like that.
    """

    def __init__(self, dataloader: DataLoader, first_batch: int,
                 placeholders: int) -> None:
        self.dataloader, self.placeholders = dataloader, placeholders
        if dataloader.batch_sampler.endless:
            self.next_pass = 0, first_batch
        else:
            self.next_pass = divmod(first_batch, len(dataloader))
        self.batches: Iterator = iter(())

    def __iter__(self) -> 'EndlessBatches':
        return self

    def __next__(self) -> Any:
        if self.placeholders:
            self.placeholders -= 1
            return None
        for batch in self.batches:
            return batch
        self.dataloader.batch_sampler.start_pass(*self.next_pass)
        self.next_pass = self.next_pass[0] + 1, 0
        self.batches = iter(self.dataloader)
        return next(self.batches)

    def skip_iter(self, num_iters: int) -> None:
        """How mmengine 0.10.12 fast-forwards. We are there already."""


def make_resumable(dataloader: DataLoader, seed: int) -> bool:
    """Prepare a dataloader, in place.

    Args:
        dataloader (DataLoader): Not iterated yet.
        seed (int): Of the augmentation; equal on all ranks.

    Returns:
        bool: False if the loader has no batch sampler or an iterable data
        set. Then there is no order to restore, and it is left as it was.
    """
    dataset = dataloader.dataset
    if dataloader.batch_sampler is None or isinstance(dataset, IterableDataset):
        return False
    if not isinstance(dataset, SampleSeeding):
        dataset = SampleSeededDataset(dataset)
    if dataset.seed is None:
        dataset.seed = seed
    # A DataLoader refuses new parts, lest they contradict each other. These
    # have the same lengths and attributes as the old ones, and changing the
    # loader in place keeps everything right that holds it.
    object.__setattr__(dataloader, 'dataset', dataset)
    object.__setattr__(dataloader, 'batch_sampler',
                       ResumableBatchSampler(dataloader.batch_sampler, dataset))
    dataloader._iterator = None  # persistent workers that know the old parts
    return True


def _nested(dataset) -> Iterator[Any]:
    """A data set and those that it wraps, in mmengine's ways of wrapping."""
    yield dataset
    inside = getattr(dataset, '__dict__', {})
    for child in (inside.get('dataset'), inside.get('_dataset'),
                  *inside.get('datasets', ())):
        if child is not None:
            yield from _nested(child)
