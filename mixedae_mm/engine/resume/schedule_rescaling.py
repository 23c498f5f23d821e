"""Schedules counted in iterations, when an epoch gets more or fewer of them."""
from typing import Any, Dict, Iterator, Tuple

POSITION = ('last_step', '_global_step')
VALUES = ('_last_value', 'base_values')


def rescale_schedules(runner, checkpoint: dict, ratio: float) -> None:
    """Make a checkpoint's schedules fit a changed number of iterations.

    mmengine's schedulers remember their lengths. Resumed with half the batch,
    a cosine over 300 epochs would reach its end at epoch 150. So those that
    were converted from epochs take the lengths of the present config and
    their position times the ratio.

    Args:
        runner (Runner): With schedulers built from the present config.
        checkpoint (dict): Its ``param_schedulers`` are changed in place.
        ratio (float): Iterations per epoch now, divided by those before.
    """
    for scheduler, saved in _pairs(runner.param_schedulers,
                                   checkpoint.get('param_schedulers')):
        fresh = scheduler.state_dict()
        lengths = {
            key: value
            for key, value in fresh.items() if key not in POSITION + VALUES
        }
        if all(saved.get(key) == value for key, value in lengths.items()):
            continue  # counted in epochs, or in iterations by the user
        saved.update(lengths)
        saved.update({key: round(saved[key] * ratio) for key in POSITION})


def _pairs(schedulers: Any, saved: Any) -> Iterator[Tuple[Any, Dict]]:
    """Each scheduler with its saved state; one list per optimizer, or one."""
    if not schedulers or not saved:
        return
    if isinstance(schedulers, dict):
        for name, group in schedulers.items():
            yield from zip(group, saved[name])
    else:
        yield from zip(schedulers, saved)
