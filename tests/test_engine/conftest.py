"""Reference runs, shared by all tests that compare with them."""
import json

import pytest
import toy_training as toy


@pytest.fixture(scope='session')
def uninterrupted(tmp_path_factory):
    """Results of runs that nobody killed, computed once for each setting."""
    known = {}

    def run(processes=1, **kwargs):
        key = json.dumps([processes, kwargs], sort_keys=True)
        if key not in known:
            work_dir = tmp_path_factory.mktemp('uninterrupted')
            if processes == 1:
                assert toy.train(work_dir, **kwargs)
            else:
                codes = toy.train_processes(work_dir, processes, **kwargs)
                assert codes == [0] * processes
            known[key] = toy.result(work_dir)
        return known[key]

    return run


@pytest.fixture
def check_same(uninterrupted):
    """Compare a run with an uninterrupted one."""

    def check(work_dir, **kwargs):
        assert toy.result(work_dir) == uninterrupted(**kwargs)

    return check


@pytest.fixture
def said(capfd):
    """What was printed since the last call."""
    return lambda: ''.join(capfd.readouterr())
