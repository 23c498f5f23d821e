"""Run Python programs in processes that have imported the toolboxes already.

A program of ours imports for some seconds before it does anything. Processes that are
forked from a server, which imports once and does nothing else, begin at once: they
inherit neither a thread nor a generator. Where there is a GPU each imports by itself.
"""
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Callable, Sequence
from unittest import mock

import torch

PRELOAD = ['mixedae_mm', 'mixedae_mm.launch.train', 'mixedae_mm.launch.test']


def process(target: Callable, *args) -> multiprocessing.Process:
    """Start a function of a module that the process can import, with its arguments."""
    # mmengine looks for a GPU when it is imported; no fork can use that GPU.
    context: Any = multiprocessing.get_context(
        'spawn' if torch.cuda.is_available() else 'forkserver')
    context.set_forkserver_preload(PRELOAD)
    started = context.Process(target=target, args=args)
    # The server imports before it is told our sys.path.
    with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path)):
        started.start()
    return started


def run(command: Sequence, cwd=None, env=None,
        timeout: float = 600) -> subprocess.CompletedProcess:
    """Run a program as ``subprocess.run(..., capture_output=True, text=True)`` does.

    The command is ``sys.executable``, a script or ``-m`` and a module, and arguments.
    Variables that are read while a library is imported have no effect.
    """
    _, *arguments = map(str, command)
    with tempfile.TemporaryDirectory() as folder:
        child = process(_run, arguments, str(cwd or os.getcwd()),
                        dict(os.environ if env is None else env), folder)
        child.join(timeout)
        try:  # what is left of it
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.join()
        out, err = (Path(folder, name).read_text() for name in ('out', 'err'))
    return subprocess.CompletedProcess(command, child.exitcode, out, err)


def output_of(*command, status: int = 0, cwd=None, **variables) -> str:
    """What a script, or ``-m`` and a module, prints; it has to end with a status.

    ``variables`` are added to those of the environment.
    """
    done = run([sys.executable, *command], cwd, {
        **os.environ, **{name: str(value) for name, value in variables.items()}})
    output = done.stdout + done.stderr
    assert done.returncode == status, output[-8000:]
    return output


def _run(arguments: list, cwd: str, env: dict, folder: str) -> None:
    os.setsid()
    for name, stream in (('out', sys.stdout), ('err', sys.stderr)):
        os.dup2(os.open(f'{folder}/{name}', os.O_WRONLY | os.O_CREAT), stream.fileno())
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:0] = filter(None, env.get('PYTHONPATH', '').split(os.pathsep))
    try:
        if arguments[0] == '-m':
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name='__main__', alter_sys=True)
        else:
            sys.argv = arguments
            sys.path.insert(0, os.path.dirname(os.path.abspath(arguments[0])))
            runpy.run_path(arguments[0], run_name='__main__')
    except Exception:
        traceback.print_exc()
        sys.exit(1)
