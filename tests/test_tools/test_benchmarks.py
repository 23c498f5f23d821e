"""The benchmark's arithmetic, its peers, and its command."""
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from benchmarks import listing, page
from benchmarks.attention import naive_topk_attention
from benchmarks.compare import (alternate, as_table, in_own_process, peak_memory,
                                summarize)
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


def test_table_shows_every_row():
    table = as_table('title', [dict(name='a', ratio=.51234), dict(
        name='b', ratio=1)])
    assert table.splitlines()[0] == 'title'
    assert '0.5123' in table and len(table.splitlines()) == 4


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


def test_listing_counts_every_image():
    rows = listing.run(1200, repeats=1)
    assert [row['images'] for row in rows] == [1200, 1200]
    assert rows[0]['ratio'] == 1 and rows[1]['median_s'] > 0


def test_page_shows_measurements_and_what_is_missing():
    result = dict(
        what='step', command='python tools/benchmarks step', config='mae_vitb_300e',
        batch_size=16, machine=dict(
            device='cpu', processor='A processor', threads=2, python='3.11',
            torch='2.14'),
        rows=[dict(name='ours', median_s=5.123, ratio=.801, ratio_min=.79,
                   ratio_max=.81, images_per_s=3.14, device_days=1234.5)])
    text = page.as_page([result])
    assert '| ours | 5.12 | 0.80 | 0.79 – 0.81 | 3.14 | 1234 |' in text
    assert 'Batch 16 on A processor, 2 threads' in text
    assert '16.4 GPU-days on V100' in text
    assert 'On a GPU: **not measured**. The command for it is `python' in text


def test_page_without_measurements_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match='holds no measurement'):
        page.write(tmp_path, tmp_path / 'speed.md')


def test_speed_page_is_what_the_measurements_make_it(tmp_path):
    written = page.write(ROOT / 'docs/measurements', tmp_path / 'speed.md')
    assert written.read_text() == (ROOT / 'docs/speed.md').read_text()


@pytest.mark.slow
@pytest.mark.parametrize('what', ['attention', 'data'])
def test_command_writes_what_it_measured(what, tmp_path):
    out = tmp_path / 'result.json'
    subprocess.run(
        [sys.executable, ROOT / 'tools/benchmarks', what, '--repeats', '1',
         '--batch-size', '1', '--json', out],
        check=True, capture_output=True, cwd=tmp_path)
    result = json.loads(out.read_text())
    assert result['what'] == what
    assert all(row['median_s'] > 0 for row in result['rows'])
    assert result['machine']['torch'] == torch.__version__
