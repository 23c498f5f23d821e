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
