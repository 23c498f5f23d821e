#!/usr/bin/env python3
"""Make the virtual environment that ``make setup``, ``demo`` and ``test`` share.

Runs under a bare Python: only the standard library is imported here. Every
step can be repeated; what is already installed stays.

Pre-training needs none of mmcv's operators, and pip builds mmcv without them where
it cannot see PyTorch. With ``--downstream`` they compile for many minutes against
the PyTorch that is installed, and pip would cache the wheel without regard to that
PyTorch. So these wheels are built here and kept in a cache of their own, under a key
that names everything the binary depends on.
"""

import argparse
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

ROOT = Path(__file__).resolve().parents[1]
# The versions of Python that the pinned packages of a stack exist for; PyTorch 2.1
# has none for a newer one.
PYTHONS = {
    'onedl': ('3.10', '3.11', '3.12', '3.13'),
    'openmmlab': ('3.11',),
}
THIS_PYTHON = '{}.{}'.format(*sys.version_info)
# A line of pip's log that means the package index was not reached.
NETWORK_ERRORS = ('Failed to establish a new connection', 'NameResolutionError',
                  'Name or service not known', 'Network is unreachable',
                  'ConnectTimeoutError', 'ProxyError', 'Read timed out')


class SetupError(Exception):
    """The environment cannot be made; the message is one sentence."""


class Torch(NamedTuple):
    """What compiled operators depend on, asked of the installed PyTorch."""
    version: str  # with the local part, '2.14.1+cu130'
    gpu: str  # 'sm90' where a GPU can be used, else ''
    cuda: str  # the CUDA version that PyTorch was built for, '' without
    nvcc: str  # the major version of the CUDA compiler found, '' without

    @property
    def device(self) -> str:
        """``cpu``, or the CUDA version and GPU that operators are compiled for."""
        same_cuda = self.nvcc and self.nvcc == self.cuda.partition('.')[0]
        return f'cu{self.cuda}-{self.gpu}' if self.gpu and same_cuda else 'cpu'


ASK_TORCH = """
import glob, os, re, subprocess, torch
from torch.utils.cpp_extension import CUDA_HOME
gpu = cuda = nvcc = ''
if torch.cuda.is_available():
    gpu = 'sm%d%d' % torch.cuda.get_device_capability()
    compiler = os.path.join(CUDA_HOME or '', 'bin', 'nvcc')
    if CUDA_HOME and os.path.exists(compiler):
        said = subprocess.run([compiler, '--version'], capture_output=True, text=True)
        nvcc = (re.findall(r'release (\\d+)', said.stdout) or [''])[0]
print(torch.__version__, gpu or '-', torch.version.cuda or '-', nvcc or '-')
"""


def wheel_key(mmcv: str, torch: Torch, python: str) -> str:
    """Folder name of a cached mmcv wheel: all that its content depends on.

    Such as ``onedl-mmcv-2.3.6`` and, for ``python``, ``cp311-linux-x86_64``.
    """
    return f'{mmcv}_torch-{torch.version}_{python}_{torch.device}_ops'


class Environment:
    """A virtual environment and the commands that run in it."""

    def __init__(self, stack: str, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.python = folder / 'bin' / 'python'
        self.log = folder / 'setup.log'
        # Names the installed wheel with operators; distribution metadata cannot.
        self.mmcv_marker = folder / 'mmcv-wheel'

    def requirement(self, distribution_end: str) -> str:
        """The pinned line of the stack's requirements for one distribution."""
        lines = (ROOT / 'requirements' / f'{self.stack}.txt').read_text().splitlines()
        return next(line for line in lines
                    if line.partition('==')[0].endswith(distribution_end))

    def create(self) -> None:
        if (self.folder / 'bin' / 'pip').exists():  # the last thing it makes
            if not (self.folder / 'lib' / f'python{THIS_PYTHON}').exists():
                raise SetupError(f'{self.folder} is an environment of another Python '
                                 f'than {THIS_PYTHON}: remove it or name another '
                                 'folder, `make VENV=...`.')
            return
        done = subprocess.run(
            [sys.executable, '-m', 'venv', str(self.folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            shutil.rmtree(self.folder, ignore_errors=True)
            raise SetupError(
                f'{sys.executable} cannot make a virtual environment; on Debian and '
                f'Ubuntu install python{THIS_PYTHON}-venv. '
                f'It said: {done.stdout.strip()}')

    def run(self, command: List[str], env: Optional[Dict[str, str]] = None,
            **kwargs) -> subprocess.CompletedProcess:
        """Run with the environment's programs first on the path."""
        path = f'{self.python.parent}{os.pathsep}{os.environ["PATH"]}'
        # A PYTHONPATH of the caller could pretend that packages are installed.
        inherited = {k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}
        return subprocess.run([str(part) for part in command],
                              env={**inherited, 'PATH': path, **(env or {})}, **kwargs)

    def pip(self, *arguments, env: Optional[Dict[str, str]] = None) -> None:
        self.log.unlink(missing_ok=True)
        # What pip builds from source, in isolation, is built with pinned versions too.
        pins = {'PIP_CONSTRAINT': f'requirements/constraints-{self.stack}.txt'}
        if '--no-build-isolation' not in arguments:
            pins['PIP_BUILD_CONSTRAINT'] = pins['PIP_CONSTRAINT']
        done = self.run(
            [self.python, '-m', 'pip', '--disable-pip-version-check', '--retries', '3',
             '--log', self.log, *arguments], {**pins, **(env or {})}, cwd=ROOT)
        if done.returncode == 0:
            return
        said = self.log.read_text(errors='replace') if self.log.exists() else ''
        if any(error in said for error in NETWORK_ERRORS):
            raise SetupError(
                'the package index cannot be reached: check the network, or name a '
                'proxy or mirror in HTTPS_PROXY or PIP_INDEX_URL.')
        raise SetupError(f'pip failed as shown above (its full log is {self.log}).')

    def ask_torch(self) -> Torch:
        done = self.run([self.python, '-c', ASK_TORCH], stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise SetupError(f'PyTorch does not import: {done.stderr.strip()}')
        return Torch(*(word.strip('-') for word in done.stdout.split()))

    def install_mmcv(self, with_ops: bool) -> None:
        """Install mmcv, with operators from the cache of wheels."""
        torch, mmcv = self.ask_torch(), self.requirement('mmcv')
        python = f'cp{THIS_PYTHON.replace(".", "")}-' + \
            sysconfig.get_platform().replace('_', '-')
        key = wheel_key(mmcv.replace('==', '-'), torch, python)
        installed = self.mmcv_marker.read_text() if self.mmcv_marker.exists() else ''
        if installed == key:  # operators do no harm to those who do not need them
            return
        if with_ops:
            cached = cache_folder() / key
            if not cached.exists():
                self.build_mmcv(cached, torch)
            wheel, = cached.glob('*.whl')
            self.pip('install', '--no-deps', '--force-reinstall', wheel)
            self.mmcv_marker.write_text(key)
        else:
            # pip's isolated build does not see PyTorch, so it compiles nothing. What
            # pip has cached may have operators, for some other PyTorch.
            self.pip('install', '--no-deps', '--no-cache-dir',
                     *(['--force-reinstall'] if installed else []), mmcv)
            self.mmcv_marker.unlink(missing_ok=True)

    def build_mmcv(self, cached: Path, torch: Torch) -> None:
        """Compile mmcv's operators into a wheel in the folder ``cached``."""
        check_compiler()
        cached.parent.mkdir(parents=True, exist_ok=True)
        # Built beside its place and renamed: a killed build leaves no wheel.
        building = Path(tempfile.mkdtemp(prefix='.building-', dir=cached.parent))
        try:
            self.pip('download', '--no-deps', '--no-build-isolation', '--no-cache-dir',
                     '--no-binary', ':all:', '-d', building, self.requirement('mmcv'))
            archive, = building.glob('*.tar.gz')
            shutil.unpack_archive(archive, building)
            source, = (path for path in building.iterdir() if path.is_dir())
            if self.stack == 'onedl':
                # It asks for C++17 by name; the headers of PyTorch 2.14 need C++20.
                script = source / 'setup.py'
                script.write_text(script.read_text().replace('-std=c++17',
                                                             '-std=c++20'))
            (building / 'wheel').mkdir()
            self.pip('wheel', '--no-deps', '--no-cache-dir', '--no-build-isolation',
                     '-w', building / 'wheel', source,
                     env=self.compiler_settings(torch))
            if not cached.exists():  # else another build was faster
                (building / 'wheel').rename(cached)
        finally:
            shutil.rmtree(building, ignore_errors=True)

    def compiler_settings(self, torch: Torch) -> Dict[str, str]:
        """Environment variables that decide what is compiled, and how fast."""
        say('  compiling its operators: 5 to 15 minutes on two cores, once for each '
            'version of Python and PyTorch')
        settings = {
            'MAX_JOBS': os.environ.get('MAX_JOBS', str(os.cpu_count() or 1)),
            # Full optimisation doubles the wait; on a GPU it changes nothing.
            'CFLAGS': os.environ.get('CFLAGS', '-O1'),
        }
        if torch.device == 'cpu':
            settings['CUDA_VISIBLE_DEVICES'] = ''
            if torch.gpu:
                say(f'  note: no nvcc for CUDA {torch.cuda} was found, so they are '
                    'compiled for the CPU only; detectors will not run on the GPU.')
        return settings


def check_compiler() -> None:
    """Say what is missing before the sources are fetched, not after."""
    if not (shutil.which(os.environ.get('CXX', 'g++')) or shutil.which('c++')):
        raise SetupError('a C++ compiler is needed to compile mmcv: install g++ (on '
                         'Debian and Ubuntu build-essential), or name one in CXX.')
    header = Path(sysconfig.get_path('include')) / 'Python.h'
    if not header.exists():
        raise SetupError(f'the headers of Python are needed to compile mmcv ({header} '
                         'is missing): install them (on Debian and Ubuntu '
                         f'python{THIS_PYTHON}-dev).')


def cache_folder() -> Path:
    """Where mmcv's wheels are kept, shared by all checkouts of a user."""
    base = os.environ.get('XDG_CACHE_HOME') or str(Path.home() / '.cache')
    return Path(base) / 'mixedae_mm' / 'wheels'


def say(message: str) -> None:
    print(message, flush=True)


def set_up(stack: str, folder: Path, downstream: bool) -> None:
    """Bring the environment at ``folder`` to what the requirement files say."""
    if THIS_PYTHON not in PYTHONS[stack]:
        raise SetupError(
            f'{sys.executable} is Python {THIS_PYTHON}, but the packages of the stack '
            f'{stack} are pinned for {", ".join(PYTHONS[stack])}: name another with '
            '`make PYTHON=/path/to/python`.')
    environment = Environment(stack, folder)
    say(f'[1/5] virtual environment {folder}')
    environment.create()
    # A pinned pip, since older ones take minutes to see that all versions are pinned;
    # and what the builds without isolation ask for.
    environment.pip('install', 'pip', 'setuptools', 'wheel', 'packaging', 'ninja',
                    'psutil')

    torch, torchvision = (environment.requirement(name) for name in
                          ('torch', 'torchvision'))
    say(f'[2/5] {torch}, {torchvision} (about 3 GB to download)')
    environment.pip('install', torch, torchvision)

    say('[3/5] mmcv ' + ('with compiled operators' if downstream else
                         'without compiled operators, which pre-training never uses'))
    environment.install_mmcv(downstream)

    say('[4/5] the other packages')
    files = [stack, 'runtime', 'test']
    if downstream:
        files += [f'{stack}-downstream', 'interop']
    environment.pip('install', *(
        part for name in files for part in ('-r', f'requirements/{name}.txt')))

    say('[5/5] mixedae_mm itself, from this checkout')
    environment.pip('install', '--no-deps', '--no-build-isolation', '-e', ROOT)
    modules = 'mmcv, mmpretrain' + (', mmcv.ops, mmseg, mmdet' if downstream else '')
    if environment.run([environment.python, '-c', f'import {modules}'],
                       stdout=subprocess.DEVNULL).returncode:
        raise SetupError(f'the environment does not import {modules}: remove '
                         f'{folder} and try again.')
    say(f'Ready: {folder}')


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--stack', choices=('onedl', 'openmmlab'), default='onedl',
                        help='the maintained OneDL forks, or the classic releases')
    parser.add_argument('--venv', type=Path, default=ROOT / '.venv',
                        help='folder of the environment (default: %(default)s)')
    parser.add_argument('--downstream', action='store_true',
                        help='add mmseg, mmdet, the compiled operators of mmcv, and '
                        'what weights are exchanged with')
    args = parser.parse_args()
    try:
        set_up(args.stack, args.venv.expanduser().resolve(), args.downstream)
    except SetupError as error:
        sys.exit(f'error: {error}')


if __name__ == '__main__':
    main()
