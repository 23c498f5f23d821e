"""Losses and gradients that are NaN or infinite: no update, a report, a replay."""
from functools import reduce, wraps
from math import inf, isfinite
from numbers import Real
from typing import Any, Dict, List, Optional, Tuple

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

    Cost: with ``fused=True`` of PyTorch's Adam or AdamW, without clipping and loss
    scaler, the device itself leaves the update out, and the host waits for it once per
    iteration, after the step, for all numbers that the log takes. Otherwise it also
    waits after the forward and after the backward pass. Among several processes there
    is an ``all_reduce`` of each check.

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
        self.dropping = False  # the rest of an accumulation window
        # Of this iteration: whether loss and gradient are finite on all ranks, and
        # the gradient of each parameter on this one. They stay on the device until
        # the step is over.
        self.finite: Dict[str, Any] = {}
        self.parameters: List[str] = []
        self.finite_parameters: Any = ()

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
        scales_loss = _scales_loss(wrapper)
        on_device = not (scales_loss or wrapper.clip_grad_kwargs) and (
            _can_leave_out_updates(wrapper.optimizer))

        def update_if_finite(loss: Tensor, *args, **kwargs) -> None:
            finite = _on_all_ranks(loss.detach().isfinite().all())
            # Some models update several times per iteration.
            self.finite['loss'] = finite * self.finite['loss']
            if not self.dropping and (on_device or finite):
                update_params(loss, *args, **kwargs)
                return
            wrapper._inner_count += 1
            if wrapper.should_update():
                wrapper.zero_grad()

        @wraps(step)
        def step_if_finite(*args, **kwargs) -> None:
            model = bare(runner.model)
            device = next(model.parameters()).device
            self.parameters, self.finite_parameters = _finite_gradients(model, device)
            finite = _on_all_ranks(self.finite_parameters.all())
            self.finite['gradient'] = finite * self.finite['gradient']
            if on_device:
                # As torch.amp.GradScaler asks a fused optimizer: 1 is "no update".
                wrapper.optimizer.found_inf = 1 - self.finite['loss'] * finite
                step(*args, **kwargs)
                vars(wrapper.optimizer).pop('found_inf', None)
            elif finite:
                step(*args, **kwargs)

        wrapper.update_params = update_if_finite
        if not scales_loss:
            wrapper.step = step_if_finite

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Remember what the forward pass changes."""
        self.statistics_before = [buffer.clone() for buffer in self.statistics]
        self.finite = dict(loss=1, gradient=1)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None,
                         outputs: Optional[dict] = None) -> None:
        """Count, report, and stop if it is enough."""
        outputs = {} if outputs is None else outputs
        given = {name: value for name, value in outputs.items()
                 if isinstance(value, Real)
                 or isinstance(value, Tensor) and value.numel() == 1}
        finite_loss, finite_gradient, *values = _read(
            [*self.finite.values(), *given.values()])
        losses: Dict[str, float] = dict(zip(given, values))
        # Other hooks, such as the log's, need not wait for the device again.
        outputs.update({name: torch.tensor(value, dtype=torch.float64)
                        for name, value in losses.items()
                        if isinstance(outputs[name], Tensor)})
        was_dropping, window_ended = self.dropping, runner.optim_wrapper.should_update()
        self.dropping = not window_ended and (was_dropping or not finite_loss)
        if finite_loss and finite_gradient:
            if window_ended and not was_dropping:
                self.skips = 0
            self._remember(runner)
            return
        for now, before in zip(self.statistics, self.statistics_before):
            now.copy_(before)
        if not was_dropping:  # once per accumulation window
            self.skips += 1
        what = 'gradient' if finite_loss else 'loss'
        bad = [name for name, value in losses.items() if not isfinite(value)]
        bad_gradients = [
            name for name, finite in zip(self.parameters, self.finite_parameters)
            if finite_loss and not finite]
        report = None
        if bad or bad_gradients:
            report = nonfinite_report(losses, bad_gradients, data_batch)
            if self.dumps < self.max_dumps:
                report += f'; kept in {dump_step(runner, losses, data_batch)}'
                self.dumps += 1
        for name in bad:  # the means in the log stay those of real updates
            del outputs[name]
        message = f'The {what} of iteration {runner.iter + 1} is not finite'
        batches = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if what == 'gradient' and batches > 1:
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
        self._remember(runner)
        runner.message_hub.update_scalar('train/skipped_losses', self.all_skips)
        runner.logger.warning(
            f'{message}. The update is skipped, number {self.skips} of at most '
            f'{self.max_skips} in a row.')

    def _remember(self, runner) -> None:
        """Leave the state where checkpoints take it from."""
        runner.message_hub.update_info(
            STATE, (self.skips, self.all_skips, self.dropping))


def _on_all_ranks(finite: Tensor) -> Tensor:
    """1 if it is True on every rank, else 0, on the device."""
    finite = finite.float()
    all_reduce(finite, op='min')
    return finite


def _read(values: list) -> List[float]:
    """Numbers and tensors of one number each, as numbers; one wait for the device."""
    tensors = [value for value in values if isinstance(value, Tensor)]
    if not tensors:
        return values
    device = tensors[0].device
    dtype = reduce(torch.promote_types, (tensor.dtype for tensor in tensors))
    numbers = iter(torch.stack([
        tensor.detach().reshape(()).to(device, dtype) for tensor in tensors]).tolist())
    return [next(numbers) if isinstance(value, Tensor) else value for value in values]


def _finite_gradients(model: torch.nn.Module,
                      device: torch.device) -> Tuple[List[str], Tensor]:
    """Names of parameters, and whether all entries of their gradients are finite."""
    gradients = {}
    for name, parameter in model.named_parameters():
        grad: Optional[Tensor] = parameter.grad
        if grad is not None and grad.is_sparse:  # of embeddings
            grad = grad.coalesce().values()
        if grad is not None and grad.numel():  # shards may be empty
            gradients[name] = grad
    if not gradients:
        return [], torch.ones(0, device=device)
    largest = torch._foreach_norm(list(gradients.values()), inf)  # NaN if one is
    return list(gradients), torch.stack([n.float() for n in largest]).isfinite()


def _can_leave_out_updates(optimizer) -> bool:
    """Whether a flag on the device, ``found_inf``, makes its step change nothing.

    A fused SGD reads that flag, too, but keeps momentum that it has not filled.
    """
    return isinstance(optimizer, (torch.optim.Adam, torch.optim.AdamW)) and all(
        group.get('fused') for group in optimizer.param_groups)


def _scales_loss(wrapper: OptimWrapper) -> bool:
    """Whether a loss scaler judges the gradients."""
    scaler = getattr(wrapper, 'loss_scaler', None)
    return isinstance(wrapper, ApexOptimWrapper) or (
        scaler is not None and scaler.is_enabled())
