"""One training of many: an ordinary run of ``tools/train.py``."""
import json
import os
import re
import subprocess
import sys
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Tuple
from unittest import mock

from mmengine.config import Config

from mixedae_mm.analysis.run_log import read_run
from mixedae_mm.config.tree import walk
from mixedae_mm.utils.config_names import mim_folder
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_json
from mixedae_mm.utils.undisturbed import quiet
from .fingerprints import fingerprint, path_fingerprint, weights_fingerprint

TOOLS = mim_folder() / 'tools'
SETTING = 'setting.json'
START = 'model.backbone.init_cfg.checkpoint'
# Keys of a config that do not change the result.
WITHOUT_EFFECT = ('work_dir', 'launcher', 'resume')


class TrainingRun(NamedTuple):
    """A training that can be started, interrupted, continued and recognised."""
    name: str  # for people
    folder: Path  # work folder
    config: Path
    options: Dict[str, Any]  # changes to it, as --cfg-options
    data: Path  # DATA_ROOT of the training
    last_checkpoint: Optional[str]  # of a finished run; None if it keeps no weights
    steps: int
    cost: float = 1.0  # of a step, relative to those of the other runs
    needs: Optional['TrainingRun'] = None  # must be finished before
    # Names in the log, or patterns of names, of what is measured after the last step;
    # a run that was interrupted before that is not finished.
    metrics: Tuple[str, ...] = ()
    processes: int = 1  # one per GPU

    @property
    def checkpoint(self) -> Path:
        """Where the weights of the finished run are."""
        return self.folder / (self.last_checkpoint or 'no weights')

    @property
    def is_finished(self) -> bool:
        if self.last_checkpoint and not self.checkpoint.is_file():
            return False
        measured = self.measured() if self.metrics else {}
        return all(any(fnmatch(name, metric) for name in measured)
                   for metric in self.metrics)

    def measured(self) -> Dict[str, float]:
        """Return those metrics that were measured after the last step."""
        length = self.steps
        if self.last_checkpoint:  # epoch_8.pth: measurements count epochs
            length = int(self.checkpoint.stem.rpartition('_')[2])
        try:
            curves = read_run(self.folder)
        except ConfigurationError:  # nothing was logged yet
            return {}
        return {name: float(values[-1]) for name, (steps, values) in curves.items()
                if steps[-1] >= length and any(
                    fnmatch(name, metric) for metric in self.metrics)}

    @property
    def saved_config(self) -> Path:
        """The whole config, as mmengine saved it."""
        return self.folder / self.config.name

    def read_config(self) -> Config:
        """Read config and options; paths are those of where the data are now."""
        with mock.patch.dict(os.environ, DATA_ROOT=str(self.data)), quiet():
            config = Config.fromfile(self.config)
        config.merge_from_dict(self.options)
        return config

    def command(self) -> List[str]:
        """Return the command; it goes on where an earlier one was interrupted."""
        command = [sys.executable, TOOLS / 'train.py', self.config]
        if self.processes > 1:
            command = ['bash', TOOLS / 'dist_train.sh', self.config, self.processes]
        command += ['--work-dir', self.folder, '--resume']
        if self.options:
            command += ['--cfg-options', *(f'{key}={value}' for key, value in
                                           self.options.items())]
        return list(map(str, command))

    @property
    def log(self) -> Path:
        """What the training prints."""
        return self.folder / 'train.log'

    def start(self, threads: int, keep_open: Tuple[int, ...] = ()
              ) -> subprocess.Popen:
        """Start the training, which inherits some file descriptors.

        Raises:
            ConfigurationError: If the folder holds a run of another setting.
        """
        self.check_setting()
        environment = dict(os.environ, DATA_ROOT=str(self.data),
                           OMP_NUM_THREADS=str(threads), PYTHON=sys.executable)
        with open(self.log, 'a') as output:
            # A session of its own: Ctrl-C reaches only this process, which then
            # lets the training save a checkpoint.
            return subprocess.Popen(
                self.command(), env=environment, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                pass_fds=keep_open)

    def check_setting(self) -> str:
        """Write down what the result depends on, and return its fingerprint.

        Raises:
            ConfigurationError: If the folder holds a run of another setting.
        """
        now = self.setting()
        changed = self._changes_to(now)
        if changed:
            raise ConfigurationError(
                f'{self.folder} holds a run of another setting '
                f'({"; ".join(changed[:3])}): give another --work-dir, or delete '
                'that folder.')
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self.folder / SETTING, now)
        return fingerprint(now)

    def changes(self) -> List[str]:
        """Say in words what has changed since the run in the folder began."""
        return self._changes_to(self.setting())

    def _changes_to(self, now: Dict[str, Any]) -> List[str]:
        record = self.folder / SETTING
        if not record.is_file():
            return ([f'it has no {SETTING}, so its setting is unknown']
                    if self.is_finished else [])
        before = json.loads(record.read_text())
        return [f'{key} was {before.get(key, "unset")}, is {now.get(key, "unset")}'
                for key in differing(before, now)]

    def setting(self) -> Dict[str, Any]:
        """Return everything that the result depends on: dotted names, plain values.

        Weights, data and other files are represented by hashes of their content.
        """
        config = self.read_config().to_dict()
        for key in WITHOUT_EFFECT:
            config.pop(key, None)
        setting = {key: self._content(key, value) for key, value in walk(config)
                   if not isinstance(value, (dict, list, tuple))}
        if self.processes > 1:  # they draw their own masks
            setting['processes'] = self.processes
        return {**setting, 'images': path_fingerprint(self.data)}

    def _content(self, key: str, value: Any) -> Any:
        """Return a value as JSON has it, or the hash of the file that it names."""
        if not isinstance(value, str):
            plain = isinstance(value, (int, float, bool, type(None)))
            return value if plain else repr(value)
        if self.needs is not None and value == str(self.needs.checkpoint):
            return self.needs.check_setting()
        if key == 'load_from' or re.search(r'init_cfg(\.\d+)?\.checkpoint$', key):
            return weights_fingerprint(value)
        if value == str(self.data) or value.startswith(f'{self.data}{os.sep}'):
            return value.replace(str(self.data), 'DATA_ROOT', 1)
        if os.sep in value and os.path.exists(value):
            return path_fingerprint(value)
        return value

    def steps_done(self) -> int:
        """Iterations that were logged so far."""
        if self.is_finished:
            return self.steps
        try:
            return min(int(read_run(self.folder)['loss'][0][-1]), self.steps)
        except (ConfigurationError, KeyError):  # nothing yet
            return 0

    def check_end(self, status: int) -> None:
        """Refuse the end of a training that failed or measured nothing.

        Raises:
            ConfigurationError: With the last line of what it printed.
        """
        if status or not self.is_finished:
            last = ['no output', *self.log.read_text().strip().splitlines()][-1]
            raise ConfigurationError(
                f'The training of {self.name} ended with status {status} ("{last}"); '
                f'its output is in {self.log}.')


def schedule_options(length: int, warmup: Optional[int] = None,
                     unit: str = 'iters') -> Dict[str, int]:
    """Options for a run of so many steps (or ``unit='epochs'``), with its warm-up.

    The warm-up is that of the demo's config, or a tenth of a run that is shorter.
    """
    warmup = warmup or max(1, min(100, length // 10))
    return {f'train_cfg.max_{unit}': length, 'param_scheduler.0.end': warmup,
            'param_scheduler.1.begin': warmup, 'param_scheduler.1.end': length}


def differing(one: Dict[str, Any], other: Dict[str, Any]) -> List[str]:
    """List the keys that differ: only in one setting, or with another value."""
    missing = object()
    return sorted(key for key in {*one, *other}
                  if one.get(key, missing) != other.get(key, missing))
