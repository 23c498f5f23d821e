"""The benchmark's arithmetic, its peers, and its command."""
import importlib.util
import json
import re
from pathlib import Path

import preloaded
import pytest
import torch
from mmengine.config import Config

from benchmarks import cost, counting, page, step
from benchmarks.__main__ import command
from benchmarks.attention import naive_topk_attention
from benchmarks.compare import alternate, in_own_process, peak_memory, summarize
from mixedae_mm.ops import homologous_attention
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.machine import machine

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
    assert cost.gpu_days(config, 1000) == pytest.approx(4.44850, abs=1e-4)


def test_the_page_of_costs_is_the_papers_and_the_configs():
    text = (ROOT / 'docs/recipes.md').read_text()
    assert cost.plan(ROOT / 'docs/measurements') in text
    rows = re.findall(r'configs/(\w+)\.py 8` \| (\d+) million \| ([\d.]+) \|', text)
    assert {name: float(days) for name, _, days in rows} == cost.PAPER_V100_GPU_DAYS
    for name, millions, _ in rows:
        epochs = Config.fromfile(ROOT / f'configs/{name}.py').train_cfg.max_epochs
        assert round(epochs * cost.IMAGENET_IMAGES / 1e6) == int(millions)


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
        page.write_speed_page(tmp_path, tmp_path / 'speed.md')


def test_cores_per_gpu_are_the_gpus_rate_over_a_cores():
    def result(what, device, **rates):
        return dict(what=what, config='ours', batch_size=8, command='', machine=dict(
            device=device, threads=2, python='', torch=''), rows=[
                dict(name=name, images_per_s=rate) for name, rate in rates.items()])

    text = page.as_page([
        result('data', 'cpu', small=700., large=90.),
        result('step', 'cpu', ours=9000.),
        result('step', 'cuda', peer=5000., ours=3000., **{'ours, compiled': 3300.})])
    assert re.findall(r'(small|large) .*\| (\d+) \|', text) == [
        ('small', '5'), ('large', '37')]


def test_speed_page_is_what_the_measurements_make_it(tmp_path):
    written = page.write_speed_page(ROOT / 'docs/measurements', tmp_path / 'speed.md')
    assert written.read_text() == (ROOT / 'docs/speed.md').read_text()


@pytest.mark.slow
def test_command_writes_what_it_measured(tmp_path):
    out = tmp_path / 'new/folder/result.json'
    preloaded.output_of(ROOT / 'tools/benchmarks', 'listing', '--repeats', 1,
                        '--images', 1200, '--json', out)
    result = json.loads(out.read_text())
    assert result['what'] == 'listing'
    assert [row['images'] for row in result['rows']] == [1200, 1200]
    assert all(row['median_s'] > 0 for row in result['rows'])
    assert result['machine']['torch'] == torch.__version__


@pytest.mark.parametrize('options', [['--note', 'step'], ['--note=a long one'], []])
def test_the_command_that_repeats_a_measurement(monkeypatch, options):
    """Without its note, whatever that says."""
    monkeypatch.setattr('sys.argv', ['', 'step', '--save', *options, '--repeats', '3'])
    assert command() == 'python tools/benchmarks step --save --repeats 3'


def test_kernels_and_launches_of_a_trace():
    """Host events do not count; the kernels of a CUDA graph have one launch."""
    events = [dict(cat='kernel', dur=micros, args=dict(correlation=call))
              for micros, call in ((100, 1), (200, 2), (300, 2), (400, 3))]
    events += [dict(cat='gpu_memcpy', dur=50, args=dict(correlation=4)),
               dict(cat='gpu_user_annotation', dur=1000), dict(name='of no kind')]
    assert counting.kernels_in(dict(traceEvents=events), steps=2) == dict(
        kernels_s=pytest.approx(.0005), launches=2)


@pytest.mark.skipif(not counting.FORMULAS, reason='needs PyTorch 2.2')
def test_flop_of_products_and_attention():
    left = torch.randn(3, 5, requires_grad=True)
    query, key, value = torch.randn(3, 2, 4, 9, 8, requires_grad=True)

    def run():
        (left @ torch.randn(5, 7)).sum().backward()
        homologous_attention(query, key, value, 3).sum().backward()

    operators, flops = counting.count_operators(run)
    assert operators > 4
    # The constant factor needs no gradient, so that its product has one more only.
    assert flops == 2 * (2 * 3 * 5 * 7) + 3 * (2 * 2 * 2 * 4 * 9 * 9 * 8)


@pytest.mark.skipif(not hasattr(torch.compiler, 'set_stance'),
                    reason='needs PyTorch 2.6')
def test_step_measures_all_contenders(monkeypatch, tmp_path):
    """At smoke size, without the time to compile."""
    monkeypatch.setattr(step, 'SMALL_ARCH', dict(
        embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32))
    monkeypatch.setattr(step, 'SMALL_BATCH', 4)
    monkeypatch.setattr(step, 'product_rate', lambda device: 1e9)
    config = Config.fromfile(ROOT / step.SMALL_CONFIG)
    config.model.backbone.arch = step.SMALL_ARCH
    smoke = tmp_path / 'smoke.py'
    config.dump(smoke)
    has_timm = importlib.util.find_spec('timm') is not None
    with torch.compiler.set_stance('force_eager'):
        found = step.run(smoke, torch.device('cpu'), 4, repeats=1, compiled=True)
    rows = {row['name']: row for row in found['rows']}
    timm = "MAE of timm's blocks, compiled"
    expected = [step.PEER, 'smoke, eager, a group per parameter', 'smoke, eager',
                'smoke', f'{step.PEER}, compiled as ours', *[timm] * has_timm]
    assert list(rows) == expected
    assert list(found['left_out']) == ([] if has_timm else [timm])
    assert [row['name'] for row in found['small']] == [
        'small, eager', 'small, compiled', 'small, compiled, CUDA graphs']
    before, after = rows[expected[1]], rows['smoke']
    assert (before['groups'] > 40, after['groups']) == (True, 2)
    assert after['operators'] < before['operators']
    assert after['of_products'] > 0
    # The three MAEs compute the same products.
    work = [rows[name]['of_products'] * rows[name]['median_s']
            for name in (step.PEER, *expected[4:])]
    assert work == pytest.approx([work[0]] * len(work))
    record = dict(found, what='step', config='smoke', command='command', batch_size=4,
                  machine=machine(torch.device('cpu')))
    text = page.as_page([record])
    assert '| small, compiled, CUDA graphs |' in text and 'steps/s' in text
