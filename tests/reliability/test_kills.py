"""A run that is killed again and again ends as one that lives.

``pytest tests/reliability/test_kills.py -m slow --kills 4`` kills each run four times;
``--kill-config CONFIG`` takes a run of yours.
"""
import os.path as osp

import pytest
from mmengine.config import Config

from .kills import kill_and_compare
from .small_runs import classification, paper, pretraining

RUNS = dict(pretraining=pretraining, classification=classification, paper=paper)


def pytest_generate_tests(metafunc):
    """Try a few runs in passing, all of them where the number of kills is given."""
    option = metafunc.config.getoption
    runs = [option('--kill-config')] if option('--kill-config') else RUNS
    cases = [(run, processes) for run in runs for processes in (1, 2, 3)
             if run != 'paper' or processes == 2]
    if runs is RUNS and not option('--kills'):
        cases = [('classification', 2), ('paper', 2), ('pretraining', 3)]
    metafunc.parametrize('run, processes', cases)


@pytest.mark.slow
def test_killed_runs_end_as_if_they_had_lived(request, tmp_path, tell, run, processes):
    cfg = (RUNS[run](str(tmp_path / 'images')) if run in RUNS
           else Config.fromfile(run))
    said = kill_and_compare(cfg, str(tmp_path), processes,
                            request.config.getoption('--kills') or 3)
    tell(f'{osp.basename(run)}, processes: {processes}; {said}')
