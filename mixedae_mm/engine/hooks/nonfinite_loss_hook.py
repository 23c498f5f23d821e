"""Losses that are NaN or infinite: catch, report, keep for replay, skip or stop."""
from math import isfinite

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ...utils.errors import ConfigurationError
from .nonfinite_dump import describe, dump_step, files_of

STATE = 'nonfinite_loss'  # in the message hub, and so in checkpoints


class NonFiniteLossError(RuntimeError):
    """Training stopped because of non-finite losses."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Keep a non-finite loss away from the weights.

    Between forward and backward pass the loss is checked. If it is not finite
    on any rank, no rank makes this update (with gradient accumulation: the
    whole update is dropped), so that weights and optimizer stay as they were.
    A report names iteration, rank, losses and files of the batch; batch and
    weights go to ``work_dir/nonfinite/iter_N_rank_R.pth`` for
    :func:`replay_nonfinite_loss`.

    The loss is looked at before loss scaling: what the scaler of fp16 training
    skips now and then are infinite *gradients* of a finite loss, which are no
    error and not reported.

    Cost: one number is read from the device at each step, which then waits for
    the forward pass. mmengine reads the losses for its log anyway, after the
    step. Among several processes there is also an ``all_reduce`` of it.

    Args:
        max_skips (int): So many consecutive updates may be skipped, the next
            one stops training. 0, the default, stops at the first.
        max_dumps (int): So many batches are kept by each process.

    Raises:
        ConfigurationError: If an argument is negative.
        NonFiniteLossError: On all ranks, when training stops.
    """

    priority = 'HIGHEST'  # before the log takes the losses

    def __init__(self, max_skips: int = 0, max_dumps: int = 3) -> None:
        for name, value in (('max_skips', max_skips), ('max_dumps', max_dumps)):
            if value < 0:
                raise ConfigurationError(
                    f'NonFiniteLossHook.{name} is {value}, but must be at '
                    'least 0.')
        self.max_skips, self.max_dumps = max_skips, max_dumps
        self.skips = self.all_skips = self.dumps = 0
        self.is_finite = True  # the loss of this step, on all ranks
        self.dropping = False  # the rest of an accumulation window

    def before_train(self, runner) -> None:
        """Step between the loss and the optimizer."""
        wrapper = runner.optim_wrapper
        if (not isinstance(wrapper, OptimWrapper)
                or isinstance(wrapper, OptimWrapperDict)):
            raise ConfigurationError(
                'NonFiniteLossHook works with one OptimWrapper or '
                f'AmpOptimWrapper, but there is a {type(wrapper).__name__}.')
        self.skips, self.all_skips, self.dropping = runner.message_hub.get_info(
            STATE, (0, 0, False))
        update_params = wrapper.update_params
        self.statistics = _BatchNormStatistics(runner.model)

        def update_if_finite(loss: Tensor, *args, **kwargs) -> None:
            finite = torch.isfinite(loss.detach()).all().float()
            all_reduce(finite, op='min')
            self.is_finite = bool(finite)
            if not self.is_finite:
                self.statistics.undo()
                self.skips += not self.dropping
                self.dropping = True
            if not self.dropping:
                update_params(loss, *args, **kwargs)
                self.skips *= not wrapper.should_update()
                return
            wrapper._inner_count += 1
            if wrapper.should_update():
                wrapper.zero_grad()
                self.dropping = False

        wrapper.update_params = update_if_finite

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """The forward pass changes running statistics before it is judged."""
        self.statistics.remember()

    def after_train_iter(self, runner, batch_idx: int, data_batch, outputs) -> None:
        """Report, and stop if it is enough."""
        runner.message_hub.update_info(
            STATE, (self.skips, self.all_skips, self.dropping))
        if self.is_finite:
            return
        losses = {name: float(torch.as_tensor(value).detach())
                  for name, value in outputs.items()}
        bad = [name for name, value in losses.items() if not isfinite(value)]
        report = None
        if bad:
            report = describe(losses, files_of(data_batch))
            if self.dumps < self.max_dumps:
                report += f'; kept in {dump_step(runner, losses, data_batch)}'
                self.dumps += 1
        for name in bad:  # the means in the log stay those of real updates
            del outputs[name]
        message = f'The loss of iteration {runner.iter + 1} is not finite'
        for rank, other in enumerate(all_gather_object(report)):
            if other:
                message += f'. On rank {rank}: {other}'
        if self.skips > self.max_skips:
            raise NonFiniteLossError(
                f'{message}. Training stops, as {self.max_skips} updates may be '
                'skipped in a row (max_skips of NonFiniteLossHook).')
        self.all_skips += 1
        runner.message_hub.update_scalar('train/skipped_losses', self.all_skips)
        runner.logger.warning(
            f'{message}. The update is skipped, number {self.skips} of at most '
            f'{self.max_skips} in a row.')


class _BatchNormStatistics:
    """Running statistics, as they were before the step."""

    def __init__(self, model: nn.Module) -> None:
        self.now = [
            buffer for module in model.modules()
            if isinstance(module, _BatchNorm) for buffer in module.buffers()
        ]
        self.before = [buffer.clone() for buffer in self.now]

    def remember(self) -> None:
        for before, now in zip(self.before, self.now):
            before.copy_(now)

    def undo(self) -> None:
        for before, now in zip(self.before, self.now):
            now.copy_(before)
