"""Training with FSDP: every process holds a share of the model."""
import inspect
from typing import Optional, Union

import torch
from mmengine._strategy import FSDPStrategy
from mmengine.device import get_device
from mmengine.registry import STRATEGIES
from mmpretrain.models.backbones.vision_transformer import TransformerEncoderLayer
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from ...utils.errors import ConfigurationError


def is_transformer_layer(module: nn.Module, recurse: bool,
                         nonwrapped_numel: int = 0) -> bool:
    """FSDP's question what to shard: layer by layer, so that one at a time is whole."""
    return recurse or isinstance(module, TransformerEncoderLayer)


def can_shard_on_cpu() -> bool:
    """Whether this PyTorch plays the streams on a CPU that FSDP asks for."""
    return bool(inspect.signature(torch.cpu.Stream.__init__).parameters.get('priority'))


@STRATEGIES.register_module()
class ViTFSDPStrategy(FSDPStrategy):
    """mmengine's ``FSDPStrategy`` for ViTs, which also resumes and runs on CPUs.

    Use it with ``runner_type = 'FlexibleRunner'``. Checkpoints are those of a single
    process: whole tensors under their usual names, so that every tool reads them, and
    another number of processes resumes them.

    mmengine's own fails to resume with PyTorch 2.1 or later, where arguments of
    ``FSDP.optim_state_dict_to_load`` have changed places.

    Args:
        model_wrapper (dict, optional): Arguments of
            :class:`mmengine.model.MMFullyShardedDataParallel` in place of our defaults:
            layers are sharded, parameters keep their names.
        state_dict_cfg (str | dict): ``'full'``, or ``'local'`` for one file per
            process, which is faster for very large models and which only the same
            number of processes can read.
        **kwargs: As for :class:`mmengine._strategy.FSDPStrategy`.

    Raises:
        ConfigurationError: Without a GPU, if PyTorch is too old for that.
    """

    def __init__(self, *, model_wrapper: Optional[dict] = None,
                 state_dict_cfg: Union[str, dict] = 'full', **kwargs) -> None:
        wrapper = dict(type='MMFullyShardedDataParallel',
                       auto_wrap_policy=is_transformer_layer)
        on_cpu = get_device() == 'cpu'
        if on_cpu:
            if not can_shard_on_cpu():
                raise ConfigurationError(
                    f'PyTorch {torch.__version__} cannot run FSDP on a CPU; take a GPU '
                    'or a newer PyTorch.')
            # An object, which no config can hold.
            wrapper.update(device_id=torch.device('cpu'))
        wrapper.update(model_wrapper or {})
        super().__init__(
            model_wrapper=wrapper, state_dict_cfg=state_dict_cfg, **kwargs)
        if on_cpu:
            # Moved "to the CPU", what is there already is not copied, and PyTorch
            # would write the second moments over the first in its buffer.
            for config in (self.state_dict_config, self.optim_state_dict_config):
                config.offload_to_cpu = False

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Give every process its share of an optimizer's state."""
        self.optim_wrapper.load_state_dict(
            FullyShardedDataParallel.optim_state_dict_to_load(
                model=self.model, optim=self.optim_wrapper.optimizer,
                optim_state_dict=state_dict))
