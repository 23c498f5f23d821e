"""Let training go on when its curves and pictures cannot be written."""
from functools import wraps
from typing import Callable

from mmengine.visualization import Visualizer

from ...utils.messages import warn

WRITES = ('add_scalar', 'add_scalars', 'add_image', 'add_datasample')


def tolerate_failed_writes(visualizer: Visualizer) -> None:
    """Make a full disk cost the visualizer's output, not the training.

    The first of several failures in a row is a warning. (The text log needs
    no help: Python's logging goes on by itself.)

    Args:
        visualizer (Visualizer): Changed in place.
    """
    for name in WRITES:
        if hasattr(visualizer, name):
            setattr(visualizer, name, _tolerant(getattr(visualizer, name)))


def _tolerant(write: Callable) -> Callable:
    failing = False

    @wraps(write)
    def tolerant(*args, **kwargs) -> None:
        nonlocal failing
        try:
            write(*args, **kwargs)
            failing = False
        except OSError as error:
            if not failing:
                warn(f'Could not write curves or pictures: {error}. Training goes on.')
            failing = True

    return tolerant
