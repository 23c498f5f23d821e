"""The kill test finds what differs, and nothing that does not."""
import random

import pytest
import torch

from reliability import kill_harness as kill_test
from reliability.kill_points import PHASES, digest


def test_digests_see_every_bit():
    weights = dict(a=torch.tensor([1., 2.]), b=[3, torch.zeros(2, dtype=torch.int8)])
    same = dict(b=[3, torch.zeros(2, dtype=torch.int8)], a=torch.tensor([1., 2.]))
    assert digest(weights) == digest(same)
    others = [
        dict(weights, a=torch.tensor([1., 2. + 2.4e-7])),
        dict(weights, a=torch.tensor([1., 2.], dtype=torch.float64)),
        dict(weights, a=torch.tensor([[1., 2.]])),
        dict(weights, b=[3, torch.ones(2, dtype=torch.int8)]),
        dict(weights, b=[4, torch.zeros(2, dtype=torch.int8)]),
        dict(a=weights['a'], c=weights['b']),
    ]
    assert len({digest(other) for other in [weights, *others]}) == 1 + len(others)


def test_points_are_spread_over_the_run_and_its_phases(tmp_path):
    test = kill_test.KillTest(None, 2, str(tmp_path / 'test'), 'test')
    durations = dict(step=1., write=2., evaluation=3., iterations=50)
    points = test._draw(30, durations, random.Random(0))
    iterations = [point.iteration for point in points]
    assert iterations == sorted(iterations) and 0 <= min(iterations)
    assert max(iterations) < 50 and len(set(iterations)) > 15
    for phase in PHASES:
        delays = [point.delay for point in points if point.phase == phase]
        assert len(delays) == 10
        assert 0 <= min(delays) < max(delays) <= durations[phase]
    ranks = {phase: {point.rank for point in points if point.phase == phase}
             for phase in PHASES}
    assert ranks == dict(step={0, 1}, write={0}, evaluation={0, 1})
    no_evaluation = test._draw(4, dict(step=1., write=1., iterations=9),
                               random.Random(0))
    assert [point.phase for point in no_evaluation] == ['step', 'write'] * 2


@pytest.mark.slow
@pytest.mark.parametrize('processes', ['1', '2'])
def test_runs_end_as_if_they_had_not_been_killed(tmp_path, capsys, processes):
    status = kill_test.main(['--kills', '3', '--processes', processes,
                             '--work-dir', str(tmp_path / 'runs')])
    said = capsys.readouterr().out
    assert status == 0, said
    assert '6 kills: every run ended as if it had never been killed.' in said


@pytest.mark.slow
def test_a_run_that_forgets_is_found_out(tmp_path, capsys, monkeypatch):
    """The control: without ExactResumeHook, the test fails."""

    pretraining = kill_test.BUILT_IN['pretraining']

    def forgetful(folder):
        cfg = pretraining(folder)
        cfg.custom_hooks = cfg.custom_hooks[1:]
        return cfg

    monkeypatch.setattr(kill_test, 'BUILT_IN', dict(forgetful=forgetful))
    status = kill_test.main(['--kills', '2', '--processes', '1',
                             '--work-dir', str(tmp_path / 'runs')])
    assert status == 1
    assert 'NOT ALL RUNS ENDED EQUAL' in capsys.readouterr().out
