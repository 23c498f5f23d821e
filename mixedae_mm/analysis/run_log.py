"""Read the numbers that training runs logged."""
import json
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from ..utils.checks import check_count
from ..utils.errors import ConfigurationError

# Steps and values of one logged quantity, ascending in steps.
Curve = Tuple[np.ndarray, np.ndarray]
_NO_CURVE = ('step', 'iter', 'epoch')
_TIMES = ('time', 'data_time')  # per image in records of validation


def read_run(path: Union[str, Path]) -> Dict[str, Curve]:
    """Read all scalars that a run logged, by name, as ``topk_accuracy/layer_01``.

    ``path`` is the work folder of a run, or one of its log files
    (``vis_data/scalars.json``). A run that was interrupted and resumed has several.
    They are read in order; a later file replaces what it repeats.

    Raises:
        ConfigurationError: If there is no log, or a line of it is not JSON.
    """
    records: List[Dict[str, float]] = []
    for file in log_files(path):
        later = _read_records(file)
        begin = min((record['step'] for record in later if _is_training(record)),
                    default=np.inf)
        # Measurements count epochs where training counts steps: what belongs to
        # which part of the training is told by the order of the lines.
        kept = next((number for number, record in enumerate(records)
                     if _is_training(record) and record['step'] >= begin),
                    len(records))
        records = records[:kept] + later
    curves: Dict[str, Dict[float, float]] = {}
    for record in records:
        for name, value in record.items():
            if name not in _NO_CURVE and (
                    _is_training(record) or name not in _TIMES):
                curves.setdefault(name, {})[record['step']] = value
    return {name: tuple(np.array(sorted(points.items()), dtype=float).T)
            for name, points in curves.items()}


def log_files(path: Union[str, Path]) -> List[Path]:
    """Log files of a run, the oldest first, or a ConfigurationError."""
    path = Path(path).expanduser()
    if path.is_file():
        return [path]
    # mmengine starts a folder named by date and time whenever it is started.
    files = sorted(path.glob('*/vis_data/scalars.json')) or sorted(
        path.glob('vis_data/scalars.json'))
    if not files:
        what = 'has no log (*/vis_data/scalars.json)' if path.is_dir() else (
            'does not exist')
        raise ConfigurationError(
            f'{path} {what}: name the work folder of a run, or a log file.')
    return files


def training_seconds(curves: Mapping[str, Curve]) -> float:
    """Seconds spent on training iterations, from the logged ``time``; 0 without it."""
    if 'time' not in curves:
        return 0.0
    steps, seconds = curves['time']
    return float(np.sum(np.diff(steps, prepend=0) * seconds))


def layer_accuracies(curves: Mapping[str, Curve]) -> Dict[int, Curve]:
    """TopK sampling accuracy by layer, counted from 1, in percent."""
    prefix = 'topk_accuracy/layer_'
    return {int(name[len(prefix):]): curve
            for name, curve in sorted(curves.items()) if name.startswith(prefix)}


def choose_curves(runs: Mapping[str, Mapping[str, Curve]],
                  keys: Optional[Sequence[str]] = None,
                  window: int = 1) -> Dict[str, Dict[str, Curve]]:
    """Sort the curves of several runs by what they show: key -> name of a run -> curve.

    ``topk_accuracy`` is the mean over layers. ``keys`` are the losses and that by
    default, as far as logged. Curves are averaged by :func:`smooth`.

    Raises:
        ConfigurationError: If no run logged a key, or ``window`` is below 1.
    """
    check_count('The number of points to smooth over', window)
    logged = {name: dict(curves) for name, curves in runs.items()}
    for curves in logged.values():
        layers = list(layer_accuracies(curves).values())
        if layers:
            steps, _ = layers[0]
            curves['topk_accuracy'] = (
                steps, np.mean([values for _, values in layers], 0))
    known = sorted(set().union(*logged.values()))
    if keys is None:
        keys = [key for key in known if key.startswith('loss_')]
        keys += [key for key in known if key == 'topk_accuracy']
        keys = keys or [key for key in known if key == 'loss']
    missing = [key for key in keys if key not in known]
    if missing or not keys:
        raise ConfigurationError(
            f'No run logged {", ".join(missing) or "a loss"}; there are: '
            f'{", ".join(known)}.')
    return {
        key: {name: smooth(curves[key], window)
              for name, curves in logged.items() if key in curves}
        for key in keys}


def smooth(curve: Curve, window: int) -> Curve:
    """Average the last ``window`` (at least 1) points at every point.

    A value that is not finite, as of a loss that diverged, is a gap (NaN) at its own
    point only: the averages of later points leave it out.
    """
    steps, values = curve
    values = np.where(np.isfinite(values), values, np.nan)
    means = [np.nan if np.isnan(value) else np.nanmean(values[max(0, end - window):end])
             for end, value in enumerate(values, start=1)]
    return steps, np.array(means)


def _is_training(record: Mapping[str, float]) -> bool:
    """Whether a record is of training steps, and not of a measurement."""
    return 'iter' in record


def _read_records(file: Path) -> List[Dict[str, float]]:
    """Numbers, line by line; each has a ``step``."""
    lines = file.read_text().splitlines()
    records: List[Dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            record['step'] = float(record['step'])
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            if number == len(lines):
                break  # cut short when the run was killed
            raise ConfigurationError(
                f'Line {number} of {file} is not a record of a log, '
                'which is a JSON object with a "step".') from error
        records.append({name: value for name, value in record.items()
                        if isinstance(value, (int, float))})
    return records
