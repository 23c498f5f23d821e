"""mmengine's optimizer constructor, with few parameter groups."""
from typing import List, Optional

from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

from .parameter_groups import (accept_unmerged_states, log_groups, merge_equal_groups,
                               without_lines_per_parameter)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MergedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Parameters with equal settings share one parameter group.

    In pre-training two groups are left of 255, with and without weight decay. The
    updates are the same; a fused optimizer is launched once per group. Checkpoints of
    runs with one group per parameter resume.

    Args:
        optim_wrapper_cfg (dict), paramwise_cfg (dict, optional): As for mmengine's
            ``DefaultOptimWrapperConstructor``.

    Raises:
        ConfigurationError: On resuming, if the state has another number of groups,
            neither merged nor one per parameter, or learning rates that a merged group
            cannot keep.
    """

    def add_params(self, params: List[dict], module: nn.Module, prefix: str = '',
                   is_dcn_module: Optional[bool] = None) -> None:
        """Fill ``params`` with one group per combination of settings.

        Args:
            params (list[dict]): Gets the groups.
            module (nn.Module): The model.
            prefix, is_dcn_module: Used by mmengine's recursion.
        """
        if prefix:  # in the recursion
            super().add_params(params, module, prefix, is_dcn_module)
            return
        single: List[dict] = []
        with without_lines_per_parameter():
            super().add_params(single, module, prefix, is_dcn_module)
        groups = merge_equal_groups(single)
        log_groups(groups)
        places = {id(group['params'][0]): place for place, group in enumerate(single)}
        self.order = [
            places[id(parameter)] for group in groups for parameter in group['params']]
        params += groups

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a model, wrapped as the config says."""
        wrapper = super().__call__(model)
        if self.paramwise_cfg:  # without, mmengine makes a single group
            accept_unmerged_states(wrapper.optimizer, self.order)
        return wrapper
