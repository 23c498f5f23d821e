"""torch.compile of the encoder and the decoder."""
from typing import Sequence

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ...utils.errors import ConfigurationError
from .probe_hook import bare_model


@HOOKS.register_module()
class CompileHook(Hook):
    """Train with parts of the model compiled.

    mmengine's own ``compile=True`` compiles the optimizer's step along with the
    model, which fails with AdamW on PyTorch 2.14. Weights, checkpoints and
    what hooks see of the model stay as they are; results differ by rounding.

    Args:
        parts (Sequence[str]): Attributes of the model.
        **options: For :func:`torch.compile`, such as ``mode`` or ``dynamic``.

    Raises:
        ConfigurationError: If PyTorch is older than 2.6, or the model lacks a
            part.
    """

    def __init__(self,
                 parts: Sequence[str] = ('backbone', 'neck'),
                 **options) -> None:
        if not hasattr(torch.compiler, 'set_stance'):
            raise ConfigurationError(
                f'CompileHook needs PyTorch 2.6 or newer, not {torch.__version__}.')
        self.parts = parts
        self.options = options

    def before_train(self, runner: Runner) -> None:
        """Compile; it happens in the first iteration and takes a minute."""
        model = bare_model(runner)
        for part in self.parts:
            module = getattr(model, part, None)
            if not isinstance(module, torch.nn.Module):
                raise ConfigurationError(
                    f"CompileHook: the model has no '{part}'; its parts are "
                    f'{[name for name, _ in model.named_children()]}.')
            module.compile(**self.options)
