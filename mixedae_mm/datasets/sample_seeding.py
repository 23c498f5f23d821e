"""Augmentation randomness from (seed, epoch, sample index).

Ordinarily a worker draws augmentations from generators whose state depends on
all samples it loaded before, so the number of workers and an interruption
change what every later sample looks like. Here each sample starts from
generators seeded by its own (seed, epoch, index).
"""
from contextlib import contextmanager
from typing import Optional, Sequence, Union

import torch
from mmengine.registry import DATASETS
from torch.utils.data import get_worker_info

from ..utils.errors import ConfigurationError
from ..utils.random import own_random_numbers, seed_generators


class SharedNumbers:
    """A few integers in memory shared with the workers of data loaders.

    A deep copy has shared memory of its own. A deep copy of a tensor would be in
    private memory, and what the main process writes would not reach the workers.
    """

    def __init__(self, values: Union[Sequence[int], torch.Tensor],
                 dtype: torch.dtype = torch.int64):
        self.tensor = torch.as_tensor(values, dtype=dtype).clone().share_memory_()

    def __deepcopy__(self, memo):
        return type(self)(self.tensor, self.tensor.dtype)


@contextmanager
def sample_generators(seed: int, epoch: int, index: int):
    """Seed all generators for one sample, see :func:`~.random.seed_generators`.

    After the block they are as they were, but not in a worker of a data loader: only
    the loading of samples draws from them there, and restoring costs more than seeding.
    """
    if get_worker_info() is None:
        with own_random_numbers(seed, epoch, index):
            yield
    else:
        seed_generators(seed, epoch, index)
        yield


class SampleIndex(int):
    """A sample's index that carries the epoch it is drawn for.

    A sampler without epochs (``InfiniteSampler``) can yield these, so that the next
    pass over the data gets other augmentations. It goes before ``set_epoch``.
    """
    epoch: int

    def __new__(cls, index: int, epoch: int):
        self = super().__new__(cls, index)
        self.epoch = epoch
        return self

    def __getnewargs__(self):
        return int(self), self.epoch


class SampleSeeding:
    """Mixin for datasets: ``__getitem__`` runs on generators of its own.

    Put it before the dataset class and call :meth:`init_sample_seeding` in the
    constructor. Seed and epoch are kept in shared memory: what the main process sets
    reaches persistent workers, which draw the next epoch's indices only after the
    loader was iterated anew.
    """
    _sample_seeding: SharedNumbers

    def init_sample_seeding(self, seed: Optional[int]) -> None:
        # (is a seed set, seed, epoch). Past __setattr__, which a wrapper of a
        # seeded dataset has.
        vars(self)['_sample_seeding'] = SharedNumbers([0, 0, 0])
        self.seed = seed

    @property
    def seed(self) -> Optional[int]:
        """The seed of all samples; None: samples are not seeded."""
        is_set, seed, _ = self._sample_seeding.tensor.tolist()
        return seed if is_set else None

    @seed.setter
    def seed(self, seed: Optional[int]) -> None:
        if seed is not None and not 0 <= seed < 2**63:
            raise ConfigurationError(
                f'{type(self).__name__}: seed must be None or an integer in '
                f'[0, 2**63), got {seed!r}.')
        numbers = self._sample_seeding.tensor
        numbers[0], numbers[1] = seed is not None, seed or 0

    @property
    def epoch(self) -> int:
        """The epoch from which samples are seeded."""
        return int(self._sample_seeding.tensor[2])

    def set_epoch(self, epoch: int) -> None:
        """Call before the data loader is iterated, in the main process."""
        self._sample_seeding.tensor[2] = epoch

    def __getitem__(self, index: int):
        is_set, seed, epoch = self._sample_seeding.tensor.tolist()
        if not is_set:
            return super().__getitem__(index)  # type: ignore[misc]  # of the data set
        epoch = getattr(index, 'epoch', epoch)
        with sample_generators(seed, epoch, int(index)):
            return super().__getitem__(index)  # type: ignore[misc]  # of the data set


class _Delegate:
    """Behave as another dataset, ``self.dataset``, in everything."""

    def __init__(self, dataset):
        vars(self)['dataset'] = dataset

    def __getattr__(self, name: str):
        # While unpickling there is no `dataset` yet. Python looks special methods
        # up in the class, so that delegating them from an instance is of no use.
        if name == 'dataset' or name.startswith('__'):
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __setattr__(self, name: str, value) -> None:
        # What hooks change in training, as mmpretrain's SwitchRecipeHook does
        # the `pipeline`, must reach the samples. Our own names stay here.
        is_own = name in vars(self) or hasattr(type(self), name)
        if not is_own and hasattr(self.dataset, name):
            setattr(self.dataset, name, value)
        else:
            super().__setattr__(name, value)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        return self.dataset[index]


@DATASETS.register_module()
class SampleSeededDataset(SampleSeeding, _Delegate):
    """Any dataset, its augmentations drawn from (seed, epoch, index).

    All other attributes and methods are those of the wrapped dataset, to read
    and to set. Where several datasets are combined, wrap the combination.

    Args:
        dataset (dict | Dataset): The dataset to wrap, or its config.
        seed (int, optional): In [0, 2**63). With None samples are not seeded until
            ``dataset.seed`` is set.

    Raises:
        ConfigurationError: For another seed, here or set later.
    """

    def __init__(self, dataset, seed: Optional[int] = None):
        if isinstance(dataset, dict):
            dataset = DATASETS.build(dataset)
        super().__init__(dataset)
        self.init_sample_seeding(seed)
