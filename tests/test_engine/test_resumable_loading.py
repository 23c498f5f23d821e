"""Any batch of any pass, whoever asks: index and draw are the same."""
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.hooks import DistSamplerSeedHook
from torch.utils.data import BatchSampler, DataLoader

from mixedae_mm.datasets import SampleSeededDataset
from mixedae_mm.engine.resume.resumable_loading import (
    ResumableBatchSampler, endless_batches, rebuilt, resumable)

SAMPLERS = st.sampled_from([DefaultSampler, InfiniteSampler])


class Numbers(torch.utils.data.Dataset):
    """The index, and a random number as augmentation."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        return index, float(torch.rand(()))


def batches_of(size, batch_size, sampler, rank=0, world_size=1, drop_last=False):
    """The batch sampler of a rank, wrapped."""
    dataset = Numbers(size)
    sampler = sampler(dataset, shuffle=True, seed=1)
    sampler.rank, sampler.world_size = rank, world_size
    if hasattr(sampler, 'num_samples'):  # as its constructor computes them
        sampler.num_samples = -(-size // world_size)
        sampler.total_size = sampler.num_samples * world_size
    wrapped = ResumableBatchSampler(
        BatchSampler(sampler, batch_size, drop_last), dataset)
    wrapped.rank, wrapped.world_size = rank, world_size
    return wrapped


def draws(batches, limit=30):
    """(index, draw) of the first batches."""
    return [[(int(sample), sample.epoch) for sample in batch]
            for batch, _ in zip(batches, range(limit))]


@given(sampler=SAMPLERS, size=st.integers(1, 20), batch_size=st.integers(1, 6),
       epoch=st.integers(0, 3), skipped=st.integers(0, 12), drop_last=st.booleans())
def test_skipping_is_loading_without_the_first(
        sampler, size, batch_size, epoch, skipped, drop_last):
    batches = batches_of(size, batch_size, sampler, drop_last=drop_last)
    batches.start_pass(epoch)
    whole = draws(batches, 30 + skipped)
    batches.start_pass(epoch, skipped)
    assert draws(batches, 30) == whole[skipped:]


@given(sampler=SAMPLERS, world_size=st.sampled_from([1, 2, 4]),
       epoch=st.integers(0, 2))
def test_ranks_share_what_one_process_would_draw(sampler, world_size, epoch):
    """Batches of 4 images over all ranks contain the same draws."""
    ranks = [batches_of(24, 4 // world_size, sampler, rank, world_size)
             for rank in range(world_size)]
    alone = batches_of(24, 4, sampler)
    for batches in (*ranks, alone):
        batches.start_pass(epoch)
    together = [sorted(sum(batches, [])) for batches in zip(*map(draws, ranks))]
    assert together == [sorted(batch) for batch in draws(alone)]


def test_passes_are_drawn_differently():
    batches, passes = batches_of(20, 4, DefaultSampler), []
    for epoch in range(2):
        batches.start_pass(epoch)
        passes.append([sample for batch in draws(batches) for sample in batch])
    for first, second in zip(*map(lambda samples: zip(*samples), passes)):
        assert first != second
    assert not {draw for _, draw in passes[0]} & {draw for _, draw in passes[1]}


def test_an_image_drawn_twice_in_a_pass_is_augmented_twice():
    """Repeated augmentation of mmpretrain, whose point that is."""
    sampler_type = pytest.importorskip('mmpretrain.datasets').RepeatAugSampler
    dataset = Numbers(300)
    sampler = sampler_type(dataset, shuffle=False, num_repeats=3)
    batches = ResumableBatchSampler(BatchSampler(sampler, 6, False), dataset)
    first = draws(batches, 1)[0]
    assert [index for index, _ in first] == [0, 0, 0, 1, 1, 1]
    assert len({draw for _, draw in first}) == 6


@pytest.mark.parametrize('skipped', [0, 3, 4, 5])
def test_mmdet_groups_by_aspect_ratio(skipped):
    """Its batch sampler keeps images back, so that batches must be skipped."""
    samplers = pytest.importorskip('mmdet.datasets.samplers')

    class Sized(Numbers):

        def get_data_info(self, index):
            return dict(width=1 + index % 3 % 2, height=1.5)

    sampler = DefaultSampler(Sized(29), shuffle=True, seed=1)
    batches = [ResumableBatchSampler(samplers.AspectRatioBatchSampler(sampler, 4),
                                     sampler.dataset) for _ in range(2)]
    batches[0].start_pass(2)
    whole = draws(batches[0])
    batches[1].start_pass(2, skipped)
    assert draws(batches[1]) == whole[skipped:]


@pytest.mark.parametrize('sampler', [DefaultSampler, InfiniteSampler])
@pytest.mark.parametrize('first', [0, 3, 6, 14])
def test_endless_batches_start_anywhere(sampler, first):
    """Passes of 6 batches, for the sampler that has passes."""

    def take(first_batch, number, placeholders=0, workers=0):
        dataset = Numbers(22)
        data = resumable(DataLoader(
            dataset, batch_size=4, num_workers=workers, collate_fn=list,
            sampler=sampler(dataset, shuffle=True, seed=1)), seed=1)
        assert len(data.dataset) == data.dataset.size == 22  # the wrapped one's
        batches = endless_batches(data, first_batch, placeholders)
        return [next(batches) for _ in range(number)]

    expected = take(0, 20)
    assert take(first, 20 - first) == expected[first:]
    assert take(first, 20 - first, workers=2) == expected[first:]
    # mmengine 0.10.7 fast-forwards by asking for every batch.
    assert take(first, 20, placeholders=first) == [None] * first + expected[first:]


def test_data_sets_with_set_epoch_are_told_the_pass():
    """Those inside, too; and one without an order is left alone."""
    inner = SampleSeededDataset(Numbers(8), seed=5)
    concatenated = torch.utils.data.ConcatDataset([inner, Numbers(8)])
    data = resumable(DataLoader(concatenated, batch_size=4), seed=1)
    data.batch_sampler.start_pass(3)
    assert inner.epoch == 3
    stream = DataLoader(torch.utils.data.ChainDataset([]), batch_size=2)
    assert resumable(stream, seed=1) is None


def test_a_batch_sampler_may_hide_its_sampler():
    """mmengine asks for it at the start of every epoch."""
    data = resumable(DataLoader(Numbers(4), batch_sampler=[[3, 1], [0, 2]]), seed=1)
    loop = SimpleNamespace(dataloader=data)
    DistSamplerSeedHook().before_train_epoch(SimpleNamespace(train_loop=loop, epoch=1))
    batches = endless_batches(data, first_batch=1)
    assert [next(batches)[0].tolist() for _ in range(3)] == [[0, 2], [3, 1], [0, 2]]


def test_a_rebuilt_loader_has_all_options():
    """Also those that a later PyTorch may bring."""
    options = dict(num_workers=2, persistent_workers=True, prefetch_factor=3,
                   timeout=7, collate_fn=list, generator=torch.Generator(),
                   multiprocessing_context='fork', worker_init_fn=print)
    first = DataLoader(Numbers(9), batch_size=4, drop_last=True, **options)
    again = rebuilt(first, timeout=8)
    different = {name for name, value in vars(first).items()
                 if vars(again)[name] is not value and vars(again)[name] != value}
    assert different == {'timeout', 'batch_size', 'drop_last', 'sampler'}
    assert list(again.batch_sampler) == list(first.batch_sampler)
