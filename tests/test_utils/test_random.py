"""Random numbers of a place, and what drawing them leaves untouched."""
import random
from contextlib import suppress
from unittest import mock

import numpy as np
import torch

from mixedae_mm.utils.random import own_random_numbers, seed_generators


def draw():
    return random.random(), np.random.rand(), float(torch.rand(()))


def test_equal_keys_give_equal_numbers():
    numbers = {}
    for key in ((1, 2), (2, 1), (1, 2, 0), (1, )):
        seed_generators(*key)
        numbers[key] = draw()
        seed_generators(*key)
        assert draw() == numbers[key]
    assert len(set(numbers.values())) == 4


def test_own_numbers_leave_those_outside():
    """Also after an error."""
    seed_generators(7)
    expected = draw(), draw()
    seed_generators(7)
    first, inside = draw(), []
    for _ in range(2):
        with suppress(KeyError), own_random_numbers(3):
            inside.append(draw())
            raise KeyError
    assert (first, draw()) == expected and inside[0] == inside[1]


def test_only_the_current_gpu_is_touched():
    """Rank 3 of a node with eight GPUs leaves those of the other ranks alone."""
    touched = []

    def get_state(device='cuda'):
        touched.append(torch.device(device).index)
        return torch.default_generator.get_state()

    with mock.patch.multiple(
            torch.cuda, is_initialized=lambda: True, is_available=lambda: True,
            device_count=lambda: 8, current_device=lambda: 3,
            get_rng_state=get_state, manual_seed=lambda seed: None,
            set_rng_state=lambda state, device='cuda': touched.append(
                torch.device(device).index)):
        with own_random_numbers(1):
            draw()
    assert set(touched) == {3}


def test_a_gpu_that_is_not_in_use_stays_so():
    """In a dataloader worker, CUDA cannot be initialised."""
    with mock.patch.multiple(
            torch.cuda, is_initialized=lambda: False, is_available=lambda: True,
            device_count=lambda: 8, get_rng_state=mock.Mock(side_effect=RuntimeError),
            manual_seed_all=mock.Mock(side_effect=RuntimeError)):
        with own_random_numbers(1):
            draw()
