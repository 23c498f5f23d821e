"""The benchmark's arithmetic, its peers, and its command."""
import json
import sys
from pathlib import Path

import preloaded
import pytest
import torch
from mmengine.config import Config

from benchmarks import page
from benchmarks.attention import naive_topk_attention
from benchmarks.compare import alternate, in_own_process, peak_memory, summarize
from benchmarks.cost import gpu_days
from mixedae_mm.ops import homologous_attention
from mixedae_mm.utils.errors import ConfigurationError

ROOT = Path(__file__).parents[2]


def test_ratios_are_taken_round_by_round():
    """A machine that halves its speed does not change the ratio."""
    rows = summarize({'peer': [1., 2., 4.], 'ours': [.5, 1., 3.]}, 'peer')
    ours = rows[1]
    assert (ours['median_s'], ours['ratio']) == (1., .5)
    assert (ours['ratio_min'], ours['ratio_max']) == (.5, .75)
    assert rows[0]['ratio'] == 1


def test_contenders_take_turns():
    order = []
    seconds = alternate(
        dict(a=lambda: order.append('a'), b=lambda: order.append('b')),
        torch.device('cpu'), repeats=2, warmup=1)
    assert order == ['a', 'b'] * 3
    assert {name: len(runs) for name, runs in seconds.items()} == dict(
        a=2, b=2)


def test_cost_of_a_schedule():
    """300 epochs of 1 281 167 images at 1000 per second: 4.4485 days."""
    config = Config(dict(train_cfg=dict(max_epochs=300)))
    assert gpu_days(config, 1000) == pytest.approx(4.44850, abs=1e-4)


def test_the_naive_peer_computes_the_same():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 17, 8, dtype=torch.float64)
    torch.testing.assert_close(
        naive_topk_attention(query, key, value, 5),
        homologous_attention(query, key, value, 5))


def touch(megabytes):
    return peak_memory(
        lambda: torch.ones(megabytes * 2**18).sum(), torch.device('cpu'))


@pytest.mark.slow
def test_peak_memory_is_what_was_touched():
    assert in_own_process(touch, 200) == pytest.approx(200 * 2**20, rel=.05)


def test_page_without_measurements_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match='holds no measurement'):
        page.write(tmp_path, tmp_path / 'speed.md')


def test_speed_page_is_what_the_measurements_make_it(tmp_path):
    written = page.write(ROOT / 'docs/measurements', tmp_path / 'speed.md')
    assert written.read_text() == (ROOT / 'docs/speed.md').read_text()


@pytest.mark.slow
def test_command_writes_what_it_measured(tmp_path):
    out = tmp_path / 'result.json'
    done = preloaded.run([sys.executable, ROOT / 'tools/benchmarks', 'listing',
                          '--repeats', '1', '--images', '1200', '--json', out])
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result['what'] == 'listing'
    assert [row['images'] for row in result['rows']] == [1200, 1200]
    assert all(row['median_s'] > 0 for row in result['rows'])
    assert result['machine']['torch'] == torch.__version__
