"""Losses and gradients that are NaN or infinite: no update, a report, a replay."""
from functools import wraps
from math import inf, isfinite
from typing import Iterable, List

import torch
from mmengine.dist import all_gather_object, all_reduce
from mmengine.hooks import Hook
from mmengine.optim import ApexOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.registry import HOOKS
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from ...utils.checks import check_number
from ...utils.errors import ConfigurationError
from ..resume.rank_state import bare
from .nonfinite_dump import dump_step, nonfinite_report

STATE = 'nonfinite_loss'  # in the message hub, and so in checkpoints


class NonFiniteLossError(RuntimeError):
    """Training stopped because of non-finite losses or gradients."""


@HOOKS.register_module()
class NonFiniteLossHook(Hook):
    """Keep a non-finite loss or gradient away from the weights.

    Between forward and backward pass the loss is checked, and before the optimizer's
    step the gradient. If one is not finite on any rank, no rank makes this update (with
    gradient accumulation: the whole update is dropped), so that weights and optimizer
    stay as they were. A report names iteration, rank, losses, parameters and files of
    the batch; batch and weights go to ``work_dir/nonfinite/iter_N_rank_R.pth`` for
    :func:`replay_nonfinite_loss`.

    Where a loss scaler is at work (float16), gradients are left to it: it skips
    infinite ones now and then by design, which is not an error.

    Cost: one number is read from the device after the forward and one after the
    backward pass, and each makes the host wait for it. Among several processes there is
    an ``all_reduce`` of each.

    Args:
        max_skips (int | float): So many consecutive updates may be skipped, the next
            one stops training. 0, the default, stops at the first, ``float('inf')``
            never.
        max_dumps (int | float): So many batches are kept by each process.

    Raises:
        ConfigurationError: If an argument is not a number of at least 0 or, before
            training, there is not exactly one ``OptimWrapper``.
        NonFiniteLossError: On all ranks, when training stops.
    """

    priority = 'HIGHEST'  # before the log takes the losses

    def __init__(self, max_skips: float = 0, max_dumps: float = 3) -> None:
        for name, value in (('max_skips', max_skips), ('max_dumps', max_dumps)):
            check_number(f'NonFiniteLossHook.{name}', value,
                         lambda number: number >= 0, 'be a number of at least 0')
        self.max_skips, self.max_dumps = max_skips, max_dumps
        self.skips = self.all_skips = self.dumps = 0
        self.is_finite = True  # loss and gradient of this step, on all ranks
        self.what = 'loss'  # or 'gradient': what is not finite
        self.bad_gradients: List[str] = []  # names of parameters, on this rank
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
        # Running statistics, which the forward pass changes before it is judged.
        self.statistics = [
            buffer for module in runner.model.modules()
            if isinstance(module, _BatchNorm) for buffer in module.buffers()]
        update_params, step = wrapper.update_params, wrapper.step

        def update_if_finite(loss: Tensor, *args, **kwargs) -> None:
            self.what, self.bad_gradients = 'loss', []
            self.is_finite = _on_all_ranks(torch.isfinite(loss.detach()).all())
            if not self.is_finite:
                self._skip()
                self.dropping = True
            if not self.dropping:
                update_params(loss, *args, **kwargs)
                if self.is_finite and wrapper.should_update():
                    self.skips = 0
                return
            wrapper._inner_count += 1
            if wrapper.should_update():
                wrapper.zero_grad()
                self.dropping = False

        @wraps(step)
        def step_if_finite(*args, **kwargs) -> None:
            gradients = {name: parameter.grad
                         for name, parameter in bare(runner.model).named_parameters()
                         if parameter.grad is not None}
            self.is_finite = _on_all_ranks(_are_finite(gradients.values()))
            if self.is_finite:
                step(*args, **kwargs)
                return
            self.what, self.bad_gradients = 'gradient', [
                name for name, grad in gradients.items() if not grad.isfinite().all()]
            self._skip()

        wrapper.update_params = update_if_finite
        if not _scales_loss(wrapper):
            wrapper.step = step_if_finite

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Remember what the forward pass changes."""
        self.statistics_before = [buffer.clone() for buffer in self.statistics]

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
        if bad or self.bad_gradients:
            report = nonfinite_report(losses, self.bad_gradients, data_batch)
            if self.dumps < self.max_dumps:
                report += f'; kept in {dump_step(runner, losses, data_batch)}'
                self.dumps += 1
        for name in bad:  # the means in the log stay those of real updates
            del outputs[name]
        message = f'The {self.what} of iteration {runner.iter + 1} is not finite'
        batches = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if self.what == 'gradient' and batches > 1:
            message += (f' (accumulated over up to {batches} batches, of which the '
                        'last is named)')
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

    def _skip(self) -> None:
        """Count the update as skipped, once per accumulation window."""
        for now, before in zip(self.statistics, self.statistics_before):
            now.copy_(before)
        if not self.dropping:
            self.skips += 1


def _on_all_ranks(finite: Tensor) -> bool:
    finite = finite.float()
    all_reduce(finite, op='min')
    return bool(finite)


def _are_finite(gradients: Iterable[Tensor]) -> Tensor:
    """Whether all entries are, as a tensor of one value on their device."""
    # Shards may be empty, and gradients of embeddings sparse.
    dense = [grad.coalesce().values() if grad.is_sparse else grad
             for grad in gradients if grad.numel()]
    if not dense:
        return torch.tensor(True)
    largest = torch._foreach_norm(dense, inf)  # NaN if one is
    return torch.stack([value.float() for value in largest]).isfinite().all()


def _scales_loss(wrapper: OptimWrapper) -> bool:
    """Whether a loss scaler judges the gradients."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return isinstance(wrapper, ApexOptimWrapper) or (
        scaler is not None and scaler.is_enabled())
