"""Three tasks from three starting points, at the demo's size.

The trainings are ordinary ``tools/train.py`` runs of the configs in
``configs/demo/transfer``, several at a time where there is no GPU. What is
finished is kept: an interrupted demo goes on where it was.
"""
import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from mmengine.config import Config

from ..analysis.run_log import read_run
from ..datasets.generated import RECORD
from ..errors import ConfigurationError

RANDOM = 'random initialisation'
MAE = 'MAE'
MIXEDAE = 'MixedAE'
# Two outlines with two textures: few enough to be learnt in minutes.
CLASSES = ('brick_disc', 'gravel_disc', 'brick_star', 'gravel_star')


class Task(NamedTuple):
    """A way to use the backbone.

    Attributes:
        name (str): For people and folders.
        config (str): File in ``configs/demo/transfer``.
        data (str): Folder below the demo's data.
        metrics (dict[str, tuple[str, float]]): Column -> name in the log and
            factor that makes it percent.
    """
    name: str
    config: str
    data: str
    metrics: Dict[str, Tuple[str, float]]


TASKS = (
    Task('classification', 'finetune_vit-tiny_objects.py', 'objects',
         {'top-1': ('accuracy/top1', 1)}),
    Task('segmentation', 'upernet_vit-tiny_scenes.py', 'scenes/ade',
         {'mIoU': ('mIoU', 1)}),
    Task('detection', 'cascade-mask-rcnn_vit-tiny_scenes.py', 'scenes/coco', {
        'box AP': ('coco/bbox_mAP', 100),
        'mask AP': ('coco/segm_mAP', 100)
    }),
)
COLUMNS = tuple(column for task in TASKS for column in task.metrics)


class Run(NamedTuple):
    """A fine-tuning: a task from a starting point.

    Attributes:
        task (Task): What is trained.
        start (str): Name of the starting point.
        checkpoint (Path, optional): Its weights; None is random.
        config (Path): Of the training.
        data (Path): ``DATA_ROOT`` of the config.
        folder (Path): Work folder.
    """
    task: Task
    start: str
    checkpoint: Optional[Path]
    config: Path
    data: Path
    folder: Path

    @property
    def record(self) -> Path:
        return self.folder / 'result.json'

    def identity(self, options: Sequence[str]) -> dict:
        """What the result depends on, to know whether one is up to date."""
        state = self.checkpoint and self.checkpoint.stat()
        records = [folder / RECORD for folder in (self.data, *self.data.parents)]
        return dict(
            config=json.dumps(Config.fromfile(self.config).to_dict(), default=str),
            data=[path.read_text() for path in records if path.is_file()],
            checkpoint=state and [str(self.checkpoint), state.st_size,
                                  state.st_mtime_ns],
            options=list(options))

    def result(self, options: Sequence[str]) -> Optional[Dict[str, float]]:
        """Metrics of a finished run in percent, None if it is to be done."""
        if not self.record.is_file():
            return None
        content = json.loads(self.record.read_text())
        if content['identity'] != self.identity(options):
            return None
        return content['metrics']

    def seconds(self) -> float:
        """How long a finished run took."""
        return json.loads(self.record.read_text())['seconds']

    def last_weights(self) -> Path:
        """The checkpoint that the run ended with."""
        return self.folder / Path(
            (self.folder / 'last_checkpoint').read_text().strip()).name


def fine_tune(run: Run, train_command: Sequence[str], options: Sequence[str],
              threads: int) -> None:
    """Train one run and record its metrics.

    Args:
        run (Run): Which one.
        train_command (Sequence[str]): ``tools/train.py`` and its Python.
        options (Sequence[str]): More ``--cfg-options``.
        threads (int): Of PyTorch.

    Raises:
        ConfigurationError: If the training fails; it names the log.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    run.record.unlink(missing_ok=True)
    start = ('model.backbone.init_cfg=None' if run.checkpoint is None else
             f'model.backbone.init_cfg.checkpoint={run.checkpoint}')
    begun = time.time()
    train(
        [*train_command, str(run.config), '--work-dir', str(run.folder),
         '--cfg-options', start, *options],
        run.folder / 'train.log', run.data, threads)
    metrics = {
        column: factor * last_value(run.folder, key)
        for column, (key, factor) in run.task.metrics.items()
    }
    partial = run.record.with_suffix('.part')
    partial.write_text(
        json.dumps(
            dict(
                identity=run.identity(options),
                metrics=metrics,
                seconds=time.time() - begun)))
    os.replace(partial, run.record)


def train(command: Sequence[str], log: Path, data: Path, threads: int) -> None:
    """Run a training command on some data, with its output in a file.

    Raises:
        ConfigurationError: If it fails; with the last line it printed.
    """
    environment = dict(
        os.environ, DATA_ROOT=str(data), OMP_NUM_THREADS=str(threads))
    log.parent.mkdir(parents=True, exist_ok=True)
    with open(log, 'w') as output:
        status = subprocess.run(
            command, env=environment, stdout=output,
            stderr=subprocess.STDOUT).returncode
    if status != 0:
        lines = log.read_text().strip().splitlines() or ['no output']
        raise ConfigurationError(
            f'The training in {log.parent} ended with status {status} '
            f'("{lines[-1]}"); its output is in {log}.')


def last_value(folder: Path, key: str) -> float:
    """The latest value of a metric in a run's logs.

    Raises:
        ConfigurationError: If there are no logs, or they do not have it.
    """
    curves = read_run(folder)
    if key not in curves:
        raise ConfigurationError(f'The logs in {folder} have no {key}.')
    return curves[key][1][-1]


def fine_tune_all(runs: Sequence[Run], num_parallel: int,
                  fine_tune_one: Callable[[Run], None],
                  report: Callable[[str], None]) -> None:
    """Do the runs that are not done, some at a time.

    Args:
        runs (Sequence[Run]): To be done.
        num_parallel (int): How many at a time.
        fine_tune_one (callable): Does one.
        report (callable): Is told when one is done, with the time left.

    Raises:
        ConfigurationError: If one fails; those that run are finished first.
    """
    begun, failure = time.time(), None
    with ThreadPoolExecutor(num_parallel) as pool:
        waiting = {pool.submit(fine_tune_one, run): run for run in runs}
        for number, future in enumerate(as_completed(waiting), 1):
            run = waiting[future]
            if future.cancelled():
                continue
            if future.exception() is not None:
                failure = failure or future.exception()
                for other in waiting:
                    other.cancel()
                continue
            elapsed = time.time() - begun
            left = elapsed / number * (len(runs) - number)
            report(f'{run.task.name} from {run.start}: {elapsed / 60:.1f} min, '
                   f'about {left / 60:.0f} min left')
    if failure is not None:
        raise failure


def table(results: Dict[str, Dict[str, float]]) -> List[List[str]]:
    """Header and one line for each starting point, of what all have.

    Args:
        results (dict[str, dict[str, float]]): Start -> column -> percent.
    """
    columns = [column for column in COLUMNS
               if all(column in values for values in results.values())]
    return [['starting point', *columns]] + [
        [start, *(f'{values[column]:.1f}' for column in columns)]
        for start, values in results.items()
    ]
