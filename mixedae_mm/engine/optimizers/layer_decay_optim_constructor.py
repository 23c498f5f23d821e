"""Layer-wise learning rate decay, one mechanism for all three toolboxes."""
from functools import partial
from typing import List, Optional

from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS
from mmpretrain.engine import LearningRateDecayOptimWrapperConstructor
from torch import nn

from ...utils.checks import check_number
from ...utils.errors import ConfigurationError
from .parameter_groups import merge_equal_groups

# Without weight decay in MAE and BEiT, as are biases, norms and all other parameters
# of one dimension.
NO_DECAY = ('cls_token', 'mask_token', 'pos_embed', 'segment_embed',
            'relative_position_bias')
DEFAULTS = dict(norm_decay_mult=0., bias_decay_mult=0., flat_decay_mult=0.)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(LearningRateDecayOptimWrapperConstructor):
    """Lower learning rates for the earlier layers of ``model.backbone``.

    A parameter of layer ``d`` of ``n`` gets ``lr * rate ** (n - 1 - d)``, as in BEiT
    and MAE: patch embedding, CLS token and position embedding are layer 0, the
    Transformer layers 1 to ``n - 2``; the final norm and all that is not backbone
    (necks, heads) are ``n - 1`` and have the full rate. There is no weight decay on
    biases, norms, tokens and embeddings (:data:`NO_DECAY`), unless ``paramwise_cfg``
    says otherwise::

        optim_wrapper = dict(
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
            constructor='LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(layer_decay_rate=0.75))

    The rules are those of mmpretrain's constructor, which asks the whole model for
    depths: the models of mmseg and mmdet do not know them. It also makes one parameter
    group per parameter; here it is one per layer and weight decay, with which
    optimizers are several times faster.

    Args:
        optim_wrapper_cfg (dict): With ``optimizer``, which must have ``lr`` and
            ``weight_decay``.
        paramwise_cfg (dict, optional): ``layer_decay_rate`` in (0, 1], by default 1;
            the rest as for mmpretrain's constructor.

    Raises:
        ConfigurationError: For a rate outside (0, 1], an optimizer without ``lr`` or
            ``weight_decay``, or a backbone without ``get_layer_depth``.
    """

    def __init__(self, optim_wrapper_cfg: dict,
                 paramwise_cfg: Optional[dict] = None) -> None:
        given = {**DEFAULTS, **(paramwise_cfg or {})}
        exempt = {name: dict(decay_mult=0.) for name in NO_DECAY}
        given['custom_keys'] = {**exempt, **given.get('custom_keys', {})}
        check_number('layer_decay_rate', given.setdefault('layer_decay_rate', 1.),
                     lambda rate: 0 < rate <= 1, 'lie in (0, 1]')
        missing = {'lr', 'weight_decay'} - set(optim_wrapper_cfg['optimizer'])
        if missing:
            raise ConfigurationError(
                f'{type(self).__name__} needs {" and ".join(sorted(missing))} in the '
                'config of the optimizer.')
        super().__init__(optim_wrapper_cfg, given)

    def add_params(self, params: List[dict], module: nn.Module, prefix: str = '',
                   get_layer_depth=None, **kwargs) -> None:
        """Fill ``params`` with one group for each layer and weight decay.

        Args:
            params (list[dict]): Gets ``params``, ``lr``, ``lr_scale``, ``layer_id`` and
                ``weight_decay``, by layer.
            module (nn.Module): A model with ``backbone``.
            prefix, get_layer_depth: Used by mmpretrain's recursion.
        """
        if get_layer_depth is not None:  # in the recursion
            super().add_params(params, module, prefix, get_layer_depth)
            return
        backbone = getattr(module, 'backbone', None)
        depth_of = getattr(backbone, 'get_layer_depth', None)
        if depth_of is None:
            raise ConfigurationError(
                f'The backbone of {type(module).__name__} is {type(backbone).__name__},'
                ' which cannot tell the depths of its layers; layer decay needs one '
                'with get_layer_depth, such as MixedAEViT or the ViTs of mmpretrain.')
        single: List[dict] = []
        super().add_params(
            single, module, get_layer_depth=partial(depth_of, prefix='backbone.'))
        for group in single:
            del group['param_name']
        params += merge_equal_groups(
            sorted(single, key=lambda group: group['layer_id']))
