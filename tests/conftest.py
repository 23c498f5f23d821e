"""What all tests share: reproducible randomness, no window, few threads."""

import os

os.environ.setdefault('MPLBACKEND', 'Agg')
# Small tensors on many threads are slower, and CI machines have two cores.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import random  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402


@pytest.fixture(autouse=True)
def seeded():
    """The same random numbers for every test, in whatever order they run."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope='module')
def own_default_scope():
    """A runner leaves its default scope, in which the next module would build."""
    before = dict(DefaultScope._instance_dict)
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(before)
