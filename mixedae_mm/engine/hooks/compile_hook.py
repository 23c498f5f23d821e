"""torch.compile of a training step's losses, as one graph."""
import time
from typing import Any, Optional, Union

import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils.checks import check_choice
from ...utils.errors import ConfigurationError
from ...utils.machine import has_recent_gpu, pytorch_is
from ...utils.messages import warn
from ..resume.rank_state import bare, is_sharded, window_is_open

OLDEST_PYTORCH = '2.6'


@HOOKS.register_module()
class CompileHook(Hook):
    """Train with ``model.loss`` compiled: encoder, decoder and losses as one graph.

    Weights, checkpoints and what hooks see of the model stay as they are; results
    differ by rounding. Under DistributedDataParallel PyTorch cuts the graph at its
    buckets of gradients, so that their exchange overlaps the backward pass. A model
    whose losses cannot be compiled trains without, after one line in the log.

    mmengine's own ``compile=True`` compiles the optimizer's step along with the
    model, which fails with AdamW on PyTorch 2.14.

    Args:
        enabled (bool | str): ``'auto'`` (the default) compiles on a GPU of compute
            capability 8.0 or newer, with PyTorch 2.6 or newer, and leaves the CPU
            alone. True compiles everywhere, False nowhere.
        **options: For :func:`torch.compile`, such as ``mode='reduce-overhead'``
            (CUDA graphs). ``dynamic`` is False unless given: batches have one shape.

    Raises:
        ConfigurationError: If ``enabled`` is not one of the three, or True with an
            older PyTorch.
    """

    def __init__(self, enabled: Union[bool, str] = 'auto', **options: Any) -> None:
        check_choice('CompileHook.enabled', enabled, (True, False, 'auto'))
        if enabled is True and not pytorch_is(OLDEST_PYTORCH):
            raise ConfigurationError(
                f'CompileHook needs PyTorch {OLDEST_PYTORCH} or newer, not '
                f'{torch.__version__}.')
        self.enabled = enabled
        self.options = {'dynamic': False, **options}
        self.uses_cuda_graphs = options.get('mode') in (
            'reduce-overhead', 'max-autotune') or bool(
                (options.get('options') or {}).get('triton.cudagraphs')
                or options.get('backend') == 'cudagraphs')
        self.is_compiled = False
        self.first_step_began: Optional[float] = None

    def before_train(self, runner: Runner) -> None:
        """Mark the losses for compiling, which happens in the first step."""
        is_worthwhile = pytorch_is(OLDEST_PYTORCH) and has_recent_gpu()
        if self.enabled is False or (self.enabled == 'auto' and not is_worthwhile):
            return
        if is_sharded(runner):
            print_log('CompileHook: a sharded model is trained without compiling.',
                      logger='current')
            return
        model = bare(runner.model)
        eager = type(model).loss.__get__(model)
        compiled = torch.compile(eager, **self.options)

        def loss(*args: Any, **kwargs: Any) -> Any:
            try:
                return compiled(*args, **kwargs)
            except torch._dynamo.exc.TorchDynamoException as error:
                reason = (str(error).strip() or type(error).__name__).splitlines()[0]
                warn('CompileHook: the model cannot be compiled and is trained '
                     f'without: {reason}')
                model.loss, self.is_compiled = eager, False
                return eager(*args, **kwargs)

        model.loss = loss
        self.is_compiled = True
        self.first_step_began = time.perf_counter()

    def before_train_iter(self, runner: Runner, batch_idx: int,
                          data_batch: Any = None) -> None:
        """Tell CUDA graphs that they may overwrite the outputs of the last step."""
        if self.is_compiled and self.uses_cuda_graphs:
            torch.compiler.cudagraph_mark_step_begin()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None,
                         outputs: Optional[dict] = None) -> None:
        """Say how long the first step took; keep gradients that more are added to."""
        if self.first_step_began is not None:
            seconds = time.perf_counter() - self.first_step_began
            print_log(f'The first step took {seconds:.0f} s: it includes compiling the '
                      'model (CompileHook).', logger='current')
            self.first_step_began = None
        if self.is_compiled and self.uses_cuda_graphs and window_is_open(
                runner.optim_wrapper):
            # The next step would write its gradients over those of this one.
            for parameter in runner.model.parameters():
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.clone()
