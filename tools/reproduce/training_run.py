"""One training of many: an ordinary run of ``tools/train.py``."""
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from mmengine.config import Config

from mixedae_mm.analysis.run_log import Curve, read_run
from mixedae_mm.utils.config_names import mim_folder
from mixedae_mm.engine.resume.checkpoint_files import write_text
from mixedae_mm.utils.errors import ConfigurationError

TRAIN = mim_folder() / 'tools/train.py'
SETTING = 'setting.json'
START = 'model.backbone.init_cfg.checkpoint'


class TrainingRun(NamedTuple):
    """A training that can be done, interrupted, continued and recognised.

    Attributes:
        name (str): For people.
        folder (Path): Work folder.
        config (Path): Config file.
        options (dict): Changes to it, as ``--cfg-options``.
        data (Path): ``DATA_ROOT`` of the training.
        last_checkpoint (str): File name of the checkpoint of a finished run.
        steps (int): Iterations in all.
        cost (float): Of a step, relative to the other runs'.
        needs (TrainingRun, optional): Must be finished before.
        metrics (tuple[str]): Names in the log of what is measured after the
            last step; resuming a run that was killed then measures it.
    """
    name: str
    folder: Path
    config: Path
    options: Dict[str, Any]
    data: Path
    last_checkpoint: str
    steps: int
    cost: float = 1.0
    needs: Optional['TrainingRun'] = None
    metrics: Tuple[str, ...] = ()

    @property
    def checkpoint(self) -> Path:
        """Where the weights of the finished run are."""
        return self.folder / self.last_checkpoint

    @property
    def is_finished(self) -> bool:
        return self.checkpoint.is_file() and (
            not self.metrics or self._is_measured(read_run(self.folder)))

    def _is_measured(self, curves: Mapping[str, Curve]) -> bool:
        """Whether the last measurement is of the last checkpoint."""
        length = int(self.checkpoint.stem.rpartition('_')[2])  # of epoch_8, iter_300
        return all(name in curves and curves[name][0][-1] >= length
                   for name in self.metrics)

    @property
    def saved_config(self) -> Path:
        """The whole config, as mmengine saved it."""
        return self.folder / self.config.name

    def command(self) -> list:
        """What does it, from where it was interrupted if it was."""
        return [
            sys.executable, str(TRAIN), str(self.config), '--work-dir',
            str(self.folder), '--resume', '--cfg-options',
            *(f'{key}={value}' for key, value in self.options.items())
        ]

    def start(self, threads: int, keep_open: Tuple[int, ...] = ()
              ) -> subprocess.Popen:
        """Start it; its output goes to ``train.log``.

        Args:
            threads (int): Of PyTorch.
            keep_open (tuple[int]): File descriptors that it inherits.

        Raises:
            ConfigurationError: If the folder holds a run of another setting.
        """
        self.check_setting()
        environment = dict(
            os.environ, DATA_ROOT=str(self.data), OMP_NUM_THREADS=str(threads))
        with open(self.folder / 'train.log', 'a') as output:
            # Its own session: an interrupt goes to us, and we ask it to save.
            return subprocess.Popen(
                self.command(), env=environment, stdout=output,
                stderr=subprocess.STDOUT, start_new_session=True,
                pass_fds=keep_open)

    def check_setting(self) -> str:
        """Record what the result depends on, or compare with the record.

        Returns:
            str: The fingerprint of the setting.

        Raises:
            ConfigurationError: If the folder holds a run of another setting.
        """
        changed = self.changes()
        if changed:
            raise ConfigurationError(
                f'{self.folder} holds a run of another setting '
                f'({"; ".join(changed[:3])}): give another --work-dir, or delete '
                'that folder.')
        now = self.setting()
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(str(self.folder / SETTING), json.dumps(now, indent=1))
        return hashlib.sha256(
            json.dumps(now, sort_keys=True).encode()).hexdigest()[:16]

    def changes(self) -> List[str]:
        """What has changed since the run in the folder was begun, in words."""
        record = self.folder / SETTING
        if not record.is_file():
            return []
        before, now = json.loads(record.read_text()), self.setting()
        return [f'{key} was {before.get(key, "unset")}, is {now.get(key, "unset")}'
                for key in differing(before, now)]

    def setting(self) -> Dict[str, Any]:
        """All that the result depends on, flat: names to plain values."""
        config = Config.fromfile(self.config)
        config.merge_from_dict(self.options)
        config = config.to_dict()
        for key in ('work_dir', 'launcher', 'load_from', 'resume'):
            config.pop(key, None)
        setting = {
            key: value
            for key, value in _flatten(config)
            if not key.endswith(('data_root', 'init_cfg.checkpoint'))
        }
        if self.needs is not None:
            setting['starts from'] = self.needs.check_setting()
        elif self.options.get(START):
            setting['starts from'] = hashlib.sha256(
                Path(self.options[START]).read_bytes()).hexdigest()[:16]
        setting['images'] = folder_fingerprint(self.data)
        return setting

    def steps_done(self) -> int:
        """Iterations so far, as far as they were logged."""
        if self.is_finished:
            return self.steps
        logs = sorted(self.folder.glob('*/vis_data/scalars.json'))
        for line in reversed(logs[-1].read_text().splitlines()) if logs else ():
            try:
                record = json.loads(line)
            except ValueError:  # being written
                continue
            if 'iter' in record:
                return min(int(record['iter']), self.steps)
        return 0

    def last_words(self) -> str:
        """The end of its output, for an error message."""
        log = self.folder / 'train.log'
        lines = log.read_text().strip().splitlines() if log.is_file() else []
        return lines[-1] if lines else 'no output'


def differing(one: Dict[str, Any], other: Dict[str, Any]) -> List[str]:
    """Keys that only one setting has, or with another value; None is a value."""
    return sorted(
        key for key in {*one, *other}
        if (key in one) != (key in other) or one.get(key) != other.get(key))


def folder_fingerprint(folder: Path) -> str:
    """Hash of names and sizes of all files below a folder."""
    digest = hashlib.sha256()
    for path, size in sorted(_files(folder)):
        digest.update(f'{path}\0{size}\n'.encode('utf8', 'surrogateescape'))
    return digest.hexdigest()[:16]


def _files(folder: Path) -> Iterator[Tuple[str, int]]:
    for parent, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(parent, name)
            yield os.path.relpath(path, folder), os.path.getsize(path)


def _flatten(value: Any, name: str = '') -> Iterator[Tuple[str, Any]]:
    """Leaves of nested dicts and lists with dotted names, as JSON has them."""
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, (list, tuple)):
        children = enumerate(value)
    else:
        plain = isinstance(value, (str, int, float, bool, type(None)))
        yield name, value if plain else repr(value)
        return
    for key, child in children:
        yield from _flatten(child, f'{name}.{key}' if name else str(key))
