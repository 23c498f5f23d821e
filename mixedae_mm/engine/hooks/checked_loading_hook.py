"""Checkpoints of a run loaded completely, or refused before the first step."""
from typing import Optional

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import HOOKS, MODELS
from torch import device

from ...models.checkpoint_loading import check_input_channels, fit_model
from ...models.checkpoint_source import source_of
from ...utils.errors import ConfigurationError
from ...utils.messages import warn
from ..resume.rank_state import is_fsdp


@HOOKS.register_module()
class CheckedLoadingHook(Hook):
    """Make what ``load_from`` or ``resume`` reads fit the model, and say so.

    mmengine only logs which weights did not fit, and goes on with random ones.
    The train and test commands register this hook by themselves.

    Args:
        complete (bool): Refuse a checkpoint that leaves any weight as it was, for
            tests. In training a head, say, may be new. What is resumed must be
            complete in any case.
        input_channels (str, optional): ``'mean'`` makes weights for other channels of
            those of the checkpoint, in trainings; None (the default) refuses them.

    Raises:
        ConfigurationError: For another ``input_channels``. When a checkpoint is loaded,
            if it has another architecture or lacks weights that it must have.
    """
    priority = 'VERY_HIGH'  # before the hook that averages weights reads them

    def __init__(self, complete: bool = False,
                 input_channels: Optional[str] = None) -> None:
        check_input_channels(input_channels)
        self.complete = complete
        self.input_channels = input_channels

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        """Replace the checkpoint's weights by all weights of the model."""
        drop_empty_loss_scaler(checkpoint)
        model, resumed = runner.model, bool(runner._resume)
        if is_fsdp(model):
            if resumed:
                return
            # Each process has a share of the weights only; here are their shapes.
            with device('meta'):
                model = MODELS.build(runner.cfg.model)
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        path = str(runner._load_from or 'The checkpoint')
        if resumed:
            _check_state(checkpoint, path)
        source = source_of(checkpoint, path)
        complete = self.complete or resumed
        weights, report = fit_model(
            model, source, complete=complete,
            input_channels=None if complete else self.input_channels)
        for name, value in list(weights.items()):
            if value.is_meta:
                del weights[name]  # new; the model has it
            elif name not in source.weights:
                weights[name] = value.clone()  # not the model's own memory
        checkpoint['state_dict'] = weights
        print_log(f'{source.path}: {report}', logger='current')


def drop_empty_loss_scaler(checkpoint: dict) -> None:
    """Let a run in float16 resume from one in bfloat16, in place.

    A run without loss scaling saves the state of its loss scaler as ``{}``, which
    a scaler that is switched on refuses. Without this state it begins anew.
    """
    optimizer = checkpoint.get('optimizer')
    if isinstance(optimizer, dict) and optimizer.get('loss_scaler') == {}:
        del optimizer['loss_scaler']


def _check_state(checkpoint: dict, path: str) -> None:
    """Refuse to resume from weights alone; say what else a file lacks."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, dict) or not {'epoch', 'iter'} <= meta.keys():
        raise ConfigurationError(
            f'{path} does not say how far a run had come, so that it cannot be '
            'resumed; to start anew from its weights, use load_from without --resume.')
    if 'optimizer' not in checkpoint:
        warn(f'{path} has no state of the optimizer, like the best checkpoints: it '
             'starts anew, and schedules with it.')
