"""Several processes train as one does, DDP as FSDP; `pytest -s` shows the figures."""
import pytest

from mixedae_mm.engine.strategies.fsdp_strategy import can_shard_on_cpu
from reliability import distributed_harness as distributed_test
from reliability.distributed_harness import Comparison, line

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('mode, accumulate', [
    ('compose', 1), ('compose', 2), ('full', 1), ('full', 2)])
def test_two_processes_and_one(mode, accumulate):
    found = distributed_test.compare_ddp(mode, accumulate)
    print(line(found))
    assert found.equal and found.moved > 1e-2, found


@pytest.mark.skipif(not can_shard_on_cpu(),
                    reason='this PyTorch cannot run FSDP on a CPU')
def test_fsdp_and_ddp(tmp_path):
    """From the config to a checkpoint that the tools read, and to resuming."""
    folder = str(tmp_path)
    for found in (distributed_test.compare_fsdp(folder, 1),
                  distributed_test.compare_resumed_fsdp(folder)):
        print(line(found))
        assert found.equal and found.moved > 1e-3, found
    print(distributed_test.tools_load(f'{folder}/fsdp_1', folder))


def test_a_difference_is_seen():
    equal = Comparison('same', 1e-7, None, 1e-7, 1)
    assert equal.equal and line(equal).endswith(' equal')
    for part in ('loss', 'gradient', 'weight'):
        other = equal._replace(**{part: 1e-5})
        assert not other.equal and 'DIFFERENT' in line(other)
