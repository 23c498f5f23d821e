"""Base of the hooks that measure or draw the model at intervals."""
from typing import Optional

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor

from ...utils.checks import check_count
from ..resume.rank_state import bare, is_fsdp


class ProbeHook(Hook):
    """Probe the model at intervals, on the same training images.

    Training is not touched: random generators, module modes and weights are afterwards
    what they were before, and nothing runs between two probes. Of several processes
    only the first probes; nothing is communicated. Weights sharded by FSDP cannot be
    probed this way, which is logged once. Subclasses say what to do in :meth:`probe`.

    Args:
        interval (int): Iterations between two probes. The last one is after the last
            iteration.
        num_images (int): How many images of the training data.
        seed (int): Of their choice and augmentation, and of what the subclass draws.

    Raises:
        ConfigurationError: If ``interval`` or ``num_images`` is below 1.
    """
    priority = 'LOW'  # after the line of the iteration has been logged

    def __init__(self, interval: int, num_images: int, seed: int) -> None:
        check_count(f'interval of {type(self).__name__}', interval)
        check_count(f'num_images of {type(self).__name__}', num_images)
        self.interval = interval
        self.num_images = num_images
        self.seed = seed
        self.images: Optional[Tensor] = None

    def probe(self, runner: Runner, model: BaseModel, step: int) -> None:
        """Probe ``model``, without its wrapper, after ``step`` iterations."""
        raise NotImplementedError

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Load the images."""
        if is_fsdp(runner.model):
            runner.logger.warning(
                f'{type(self).__name__} is off: a single process cannot run a '
                'model that FSDP has sharded. Look at its checkpoints instead.')
            return
        # Only a run with such a hook pays for importing figures and classifiers.
        from ...analysis.probe_batch import sample_images
        self.images = sample_images(runner.train_dataloader, self.num_images,
                                   self.seed)

    @master_only
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        """Probe every ``interval`` iterations and after the last one."""
        if self.images is not None and is_due(self, runner):
            self.probe(runner, bare(runner.model), step=runner.iter + 1)


def is_due(hook: Hook, runner: Runner) -> bool:
    """Every ``hook.interval`` iterations, and after the last one."""
    return (hook.every_n_train_iters(runner, hook.interval)
            or hook.is_last_train_iter(runner))
