"""Samples depend on (seed, epoch, index) and on nothing else."""
import copy
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from mmengine.registry import DATASETS
from mmpretrain.engine import SwitchRecipeHook
from torch.utils.data import DataLoader

from mixedae_mm.datasets import (SampleIndex, SampleSeededDataset, SampleSeeding,
                                 sample_generators)
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.random import seed_generators


def draw():
    """One number of each generator."""
    return random.random(), np.random.rand(), torch.rand(()).item()


class Draws(BaseDataset):
    """Its samples are (index, what the generators yield)."""

    def load_data_list(self):
        return [dict(img_path=str(index)) for index in range(8)]

    def prepare_data(self, idx):
        return torch.tensor([idx, *draw()], dtype=torch.float64)


class SeededDraws(SampleSeeding, Draws):

    def __init__(self, seed=None):
        self.init_sample_seeding(seed)
        super().__init__()


DATASET_TYPES = {
    'mixin': SeededDraws,
    'wrapper': lambda seed: SampleSeededDataset(Draws(), seed),
    'wrapped concatenation': lambda seed: SampleSeededDataset(
        ConcatDataset([Draws(indices=4), Draws(indices=4)]), seed),
}
seeds = st.integers(0, 2**63 - 1)
indices = st.integers(0, 2**40)


@settings(max_examples=50)
@given(seeds, st.integers(0, 10000), indices, seeds)
def test_generators_are_a_function_of_the_triple(seed, epoch, index, other):
    def sample(*triple):
        with sample_generators(*triple):
            return draw()

    first = sample(seed, epoch, index)
    draw()
    assert sample(seed, epoch, index) == first
    for triple in ((seed, epoch + 1, index), (seed, epoch, index + 1),
                   (seed + 1 if seed < 2**63 - 1 else 0, epoch, index),
                   (seed, index % 1000 + epoch + 1, epoch)):
        assert not set(sample(*triple)) & set(first)


def test_neighbouring_samples_are_uncorrelated():
    values = []
    for epoch in range(2):
        for index in range(1000):
            with sample_generators(0, epoch, index):
                values.append(draw())
    values = np.array(values).reshape(2, 1000, 3)
    # Standard error of a correlation of 1000 pairs is 0.032.
    for generator in range(3):
        now, later = values[0, :, generator], values[1, :, generator]
        assert abs(np.corrcoef(now, later)[0, 1]) < 0.13
        assert abs(np.corrcoef(now[1:], now[:-1])[0, 1]) < 0.13
        assert abs(now.mean() - 0.5) < 0.05
    for pair in ((0, 1), (0, 2), (1, 2)):
        assert abs(np.corrcoef(*values[0][:, pair].T)[0, 1]) < 0.13


@pytest.mark.parametrize('dataset_type', DATASET_TYPES)
def test_workers_and_order_do_not_matter(dataset_type):
    """In-process, one and two persistent workers, over three epochs."""
    dataset = DATASET_TYPES[dataset_type](seed=7)
    runs = []
    for num_workers in (0, 1, 2):
        loader = DataLoader(dataset, batch_size=2, num_workers=num_workers,
                            persistent_workers=num_workers > 0)
        epochs = []
        for epoch in range(3):
            dataset.set_epoch(epoch)
            assert dataset.epoch == epoch
            epochs.append(torch.cat(list(loader)))
        runs.append(torch.stack(epochs))
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[0], runs[2])
    backwards = [dataset[index] for index in reversed(range(8))]
    assert torch.equal(torch.stack(backwards).flip(0), runs[0][2])
    # Another epoch brings other draws, for every sample and generator.
    assert (runs[0][0][:, 1:] != runs[0][1][:, 1:]).all()


def test_seed_reaches_running_workers():
    dataset = SeededDraws()
    loader = DataLoader(dataset, batch_size=4, num_workers=1,
                        persistent_workers=True)
    unseeded = torch.cat(list(loader))
    dataset.seed = 3
    seeded = torch.cat(list(loader))
    assert not torch.equal(seeded, unseeded)
    assert torch.equal(seeded, torch.cat(list(loader)))
    dataset.seed = None
    assert dataset.seed is None
    assert not torch.equal(torch.cat(list(loader)), seeded)


def test_without_a_seed_nothing_changes():
    wrapped, plain = SampleSeededDataset(Draws()), Draws()
    assert wrapped.seed is None
    for dataset in (wrapped, plain):
        seed_generators(1)
        dataset.result = torch.stack([dataset[0], dataset[1]])
    assert torch.equal(wrapped.result, plain.result)


def test_sample_index_carries_the_epoch():
    dataset = SeededDraws(seed=1)
    dataset.set_epoch(4)
    expected = dataset[5]
    dataset.set_epoch(0)
    assert torch.equal(dataset[SampleIndex(5, epoch=4)], expected)
    index = pickle.loads(pickle.dumps(SampleIndex(5, epoch=4)))
    assert (index, index.epoch) == (5, 4) and isinstance(index, int)
    # ... to a worker, too
    loader = DataLoader(dataset, sampler=[SampleIndex(5, 4)], num_workers=1)
    assert torch.equal(next(iter(loader))[0], expected)


def test_copies_have_shared_memory_of_their_own():
    dataset = SeededDraws(seed=1)
    twin = copy.deepcopy(dataset)
    twin.set_epoch(9)
    twin.seed = 8
    assert (dataset.seed, dataset.epoch) == (1, 0)
    assert twin._sample_seeding.tensor.is_shared()
    for seed in (-1, 2**63):
        with pytest.raises(ConfigurationError, match=r'seed must be .*\[0, 2\*\*63\)'):
            twin.seed = seed


def test_wrapper_is_the_dataset_otherwise():
    DATASETS.register_module(module=Draws, name='DrawsForTest', force=True)
    dataset = DATASETS.build(
        dict(type='SampleSeededDataset', dataset=dict(type='DrawsForTest'), seed=2))
    assert len(dataset) == 8 and dataset.seed == 2
    assert dataset.get_data_info(3)['img_path'] == '3'
    assert dataset.metainfo == dataset.dataset.metainfo
    with pytest.raises(AttributeError):
        dataset.no_such_attribute
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[1], dataset[1])


class Listed(BaseDataset):
    """Its samples are what its pipeline makes of their indices."""

    def load_data_list(self):
        return [dict(index=index) for index in range(4)]


@pytest.mark.parametrize('dataset', [
    Listed(), SampleSeededDataset(Listed()), RepeatDataset(Listed(), 2),
    ConcatDataset([Listed(), Listed(indices=2)])
])
def test_mmpretrains_hook_switches_the_pipeline(dataset):
    seeded = SampleSeededDataset(dataset, seed=4)
    assert seeded[1]['index'] == 1
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=seeded))
    SwitchRecipeHook._switch_train_pipeline(
        SimpleNamespace(train_loop=loop), lambda sample: -sample['index'])
    assert [seeded[index] for index in range(4)] == [0, -1, -2, -3]


def test_what_is_set_on_the_wrapper_is_set_inside():
    inside = SampleSeededDataset(Listed(), seed=1)
    outside = SampleSeededDataset(inside, seed=2)
    outside.pipeline = abs
    assert inside.dataset.pipeline is abs
    # Seed and epoch are each one's own, other new names the outer one's.
    outside.set_epoch(5)
    outside.note = 'new'
    assert (inside.seed, inside.epoch) == (1, 0)
    assert (outside.seed, outside.epoch) == (2, 5)
    assert not hasattr(inside, 'note') and outside.note == 'new'
    with pytest.raises(AttributeError):  # as without the wrapper
        outside.metainfo = {}
