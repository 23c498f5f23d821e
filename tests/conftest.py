"""What all tests share: options, optional packages, randomness, few threads."""

import os

os.environ.setdefault('MPLBACKEND', 'Agg')
# Small tensors on many threads are slower, and `make test` runs two processes.
os.environ.setdefault('OMP_NUM_THREADS', '1')

import random  # noqa: E402
import re  # noqa: E402
import runpy  # noqa: E402
import sys  # noqa: E402
from contextlib import contextmanager  # noqa: E402
from importlib.util import find_spec  # noqa: E402

import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from mmengine.registry import DefaultScope  # noqa: E402

# The first backward of a process decides whether autograd has threads, after which no
# process that is forked may call it. torch.export registers a device that needs them.
torch.zeros((), requires_grad=True).backward()

# What `make setup` leaves out: import names of requirements/interop.txt, and the
# toolboxes of `make test`.
OPTIONAL = {'onnx', 'onnxruntime', 'onnxscript', 'pyarrow', 'safetensors', 'timm',
            'transformers', 'mmseg', 'mmdet', 'mmcv._ext'}
# Before any test, which may pretend that one is missing.
MISSING = {name for name in OPTIONAL if not find_spec(name)}

# How long an example takes says how busy the machine is.
settings.register_profile('any machine', deadline=None)
settings.load_profile('any machine')


def pytest_addoption(parser):
    group = parser.getgroup('mixedae_mm')
    group.addoption('--strict-optional', action='store_true', help='refuse to run '
                    'without the optional packages, instead of skipping their tests')
    group.addoption('--kills', type=int, metavar='N', help='kill each run of tests/'
                    'reliability/test_kills.py N times (default: some of them, 3)')
    group.addoption('--kill-config', metavar='CONFIG', help='kill this run there '
                    'instead of the small ones')
    group.addoption('--examples', type=int, default=150, metavar='N', help='random '
                    'configurations to try (default: %(default)s)')
    group.addoption('--examples-seed', type=int, metavar='N', help='of the random '
                    'configurations; without it, the same for the same loaded modules')


def pytest_configure(config):
    if config.getoption('--strict-optional') and MISSING:
        raise pytest.UsageError(
            f'--strict-optional: {", ".join(sorted(MISSING))} cannot be imported; '
            '`make test` installs all packages')


@contextmanager
def skipping():
    """Skip the test, or the module, if an error came of a missing optional package."""
    try:
        yield
    except Exception as error:
        cause = error
        while cause is not None:
            # mmengine's own have no `name`, but all messages have it.
            if isinstance(cause, ModuleNotFoundError):
                words = re.findall(r'[\w.]+', str(cause))
                named = {*words, *(word.partition('.')[0] for word in words)}
                for package in MISSING & named:
                    pytest.skip(f'{package} is not installed; it is optional',
                                allow_module_level=True)
            cause = cause.__cause__ or cause.__context__
        raise


class OptionalModule(pytest.Module):
    """A test module that is skipped if an optional package that it imports is missing.

    Any other error of its imports stays an error.
    """

    def collect(self):
        with skipping():
            return super().collect()


def pytest_pycollect_makemodule(module_path, parent):
    return OptionalModule.from_parent(parent, path=module_path)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item):
    with skipping():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    with skipping():
        return (yield)


@pytest.fixture
def tell(record_property):
    """Add a line to the summary; `tell(line)`."""
    return lambda line: record_property('found', line)


def pytest_terminal_summary(terminalreporter):
    # Properties reach the summary from the processes of pytest-xdist too.
    reports = [report for key in ('passed', 'failed')
               for report in terminalreporter.stats.get(key, [])]
    lines = [line for report in reports for name, line in report.user_properties
             if name == 'found']
    if lines:
        terminalreporter.section('what was found')
        terminalreporter.write_line('\n'.join(lines))


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


@pytest.fixture
def warned(monkeypatch):
    """Our warnings, which go here in place of the log."""
    sentences = []
    monkeypatch.setattr('mixedae_mm.utils.messages.print_log',
                        lambda sentence, **_: sentences.append(sentence))
    return sentences


@pytest.fixture
def command(monkeypatch):
    """Run a command of ours, by its name, in this process; gives its exit status."""
    from mixedae_mm.__main__ import find_script

    def run(name, *arguments):
        script = str(find_script(name))
        monkeypatch.setattr(sys, 'argv', [script, *map(str, arguments)])
        monkeypatch.setattr(sys, 'path', list(sys.path))
        with pytest.raises(SystemExit) as leaving:
            runpy.run_path(script, run_name='__main__')
        return leaving.value.code

    return run
