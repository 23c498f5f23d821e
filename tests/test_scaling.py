"""The paper calculation of docs/scaling.md, against numbers made by hand."""
from pathlib import Path

import pytest
from mmengine.config import Config

import mixedae_mm  # noqa: F401
from benchmarks.scaling import (Cluster, ring_seconds, scaling,
                                          trained_numbers, whole_groups)

ROOT = Path(__file__).parents[1]
CONFIG = Config.fromfile(ROOT / 'configs/mixedae_vitb_300e.py')
# Nothing lost but the exchange: GPUs of 100 images/s, links of 1 GB/s.
PLAIN = Cluster(images_per_s=100., gpus_per_node=8, node_gbit=8., gpu_gbyte=1.,
                share=1., latency_us=0., overlap=0., jitter=0.)


@pytest.fixture(scope='module')
def numbers():
    return trained_numbers(CONFIG)


def test_only_trained_numbers_count(numbers):
    fixed = 197 * (768 + 512)  # sin-cos positions of encoder and decoder
    assert numbers + fixed == 111_907_840 + 4 * 768 + 768 * 128 + 128


def test_one_gpu_exchanges_nothing():
    row, = scaling(CONFIG, PLAIN, [1])
    assert row['sent_mb'] == row['exchange_ms'] == 0
    assert row['efficiency_percent'] == pytest.approx(100)
    assert row['step_ms'] == pytest.approx(4096 / 100 * 1e3)
    assert row['days'] == pytest.approx(300 * 1281167 / 100 / 86400)


def test_one_machine(numbers):
    row, = scaling(CONFIG, PLAIN, [8])
    sent = 2 * 7 / 8 * 4 * numbers
    assert row['sent_mb'] == pytest.approx(sent / 1e6)
    assert row['exchange_ms'] == pytest.approx(sent / 1e9 * 1e3)  # at 1 GB/s
    step = 4096 / 8 / 100
    assert row['efficiency_percent'] == pytest.approx(
        100 * step / (step + sent / 1e9))


def test_between_machines_every_byte_leaves_twice_less_one_share():
    # 4 machines, their network 1 GB/s; links inside so fast that they do not count.
    fast = PLAIN._replace(gpu_gbyte=1e9)
    assert ring_seconds(1e9, 32, fast, 2) == pytest.approx(2 * 3 / 4, rel=1e-6)
    slow = fast._replace(latency_us=1e6)  # a second a message, 3 each way
    assert ring_seconds(0, 32, slow, 2) == pytest.approx(6)


def test_overlap_hides_what_fits_into_the_backward_pass():
    rows = {overlap: scaling(CONFIG, PLAIN._replace(overlap=overlap), [8])[0]
            for overlap in (0., 1.)}
    assert rows[0.]['efficiency_percent'] < 100
    assert rows[1.]['efficiency_percent'] == pytest.approx(100)


def test_fsdp_sends_as_much_and_keeps_a_share():
    sharded = Config.fromfile(ROOT / 'configs/mixedae_vitl_300e_fsdp.py')
    whole = Config.fromfile(ROOT / 'configs/mixedae_vitl_300e.py')
    (fsdp, ), (ddp, ) = (scaling(cfg, PLAIN, [8]) for cfg in (sharded, whole))
    assert fsdp['sent_mb'] == pytest.approx(ddp['sent_mb'])
    assert fsdp['state_gb'] == pytest.approx(ddp['state_gb'] / 8)


def test_groups_stay_whole():
    full = Config.fromfile(ROOT / 'configs/mixedae_full_vitb_300e.py')  # 1024 images
    assert whole_groups(full, 256) and not whole_groups(full, 512)
    assert whole_groups(CONFIG, 512) and not whole_groups(CONFIG, 2048)
