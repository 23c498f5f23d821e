"""Images per second, and memory where mmengine does not log it."""
import resource
import sys

from mmengine.device import is_cuda_available
from mmengine.dist import get_world_size
from mmengine.hooks import Hook, LoggerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

# Iterations after a start that are not counted: they wait for loader workers, for
# compiling, and for kernels to be chosen.
WARM_UP = 3


@HOOKS.register_module()
class ThroughputHook(Hook):
    """Add ``images_per_second`` to the line that the log gets anyway.

    It counts clean images over all processes, and the whole time of an iteration,
    loading included, averaged since the line before. The first ``WARM_UP`` iterations
    after a start are not counted; if a line has no others, it gives the rate of its
    last iteration. On a machine without GPU it also adds ``memory``, which mmengine
    logs for GPUs: the peak of the process in MB, without its loader workers.

    Needs mmengine's ``IterTimerHook``, which is on by default.
    """

    def before_train(self, runner: Runner) -> None:
        """Follow the interval of the logger."""
        self.interval = next((hook.interval for hook in runner.hooks
                              if isinstance(hook, LoggerHook)), 10)
        self.warm = runner.iter + WARM_UP
        self.has_gpu = is_cuda_available()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch=None,
                         outputs=None) -> None:
        """Update the scalars when the next line is due."""
        if not self.every_n_inner_iters(batch_idx, self.interval):
            return
        hub = runner.message_hub
        # This iteration at least, which has the number runner.iter, from 0.
        counted = min(self.interval, max(1, runner.iter + 1 - self.warm))
        seconds = hub.get_scalar('train/time').mean(counted)
        images = len(data_batch['inputs']) * get_world_size()
        hub.update_scalar('train/images_per_second', round(images / seconds, 1))
        if not self.has_gpu:
            hub.update_scalar('train/memory', peak_memory_mb())


def peak_memory_mb() -> int:
    """Largest resident memory that this process has had, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak // (2**20 if sys.platform == 'darwin' else 2**10)
