"""Facts about a ViT from the configuration of its checkpoint, for ``describe``."""
from typing import Dict, Optional

from mmpretrain.models import VisionTransformer

from ..models.checkpoint_reading import literal_config
from ..models.mixedae_data_preprocessor import IMAGENET_MEAN, IMAGENET_STD

# What a classifier reads, by mmpretrain's names and by timm's.
POOLINGS: Dict[Optional[str], str] = {
    'avg_featmap': 'mean', 'cls_token': 'cls', 'avg': 'mean', 'token': 'cls'}


def mm_facts(meta) -> dict:
    """What ``meta`` in a checkpoint of mmengine says.

    Args:
        meta (dict | None): Its ``cfg`` is the text of a config. It is parsed
            as literals; nothing in it is executed.
    """
    meta = meta if isinstance(meta, dict) else {}
    config = meta.get('cfg')
    if isinstance(config, str):
        config = literal_config(config)
    if not isinstance(config, dict) or not isinstance(config.get('model'), dict):
        return {}
    model = config['model']
    backbone = model.get('backbone') or {}
    neck = model.get('neck') if isinstance(model.get('neck'), dict) else {}
    head = model.get('head') if isinstance(model.get('head'), dict) else {}
    preprocessor = (
        model.get('data_preprocessor') or config.get('data_preprocessor') or {})
    if model.get('type') == 'MixedAE':  # whose preprocessor has these by default
        preprocessor = dict(dict(mean=IMAGENET_MEAN, std=IMAGENET_STD), **preprocessor)
    arch = backbone.get('arch', 'base')
    if isinstance(arch, str):
        arch = VisionTransformer.arch_zoo.get(arch.lower(), {})
    norm = backbone.get('norm_cfg') or {}
    facts = dict(
        heads=arch.get('num_heads') if backbone else None,
        width=arch.get('embed_dims'),
        img_size=backbone.get('img_size', 224),
        norm_eps=norm.get('eps', 1e-6),
        norm_pix=head.get('norm_pix'),
        mean=_colours(preprocessor.get('mean')),
        std=_colours(preprocessor.get('std')),
        pooling=POOLINGS.get(backbone.get('out_type', 'cls_token')),
        classes=_classes((meta.get('dataset_meta') or {}).get('classes')))
    if neck:
        facts['decoder_heads'] = neck.get('decoder_num_heads', 16)
    if backbone.get('homologous_in_transfer'):
        facts['refuse'] = ('uses homologous attention on plain images '
                           '(homologous_in_transfer), which a plain ViT has not')
    return facts


def timm_facts(config: dict) -> dict:
    """What timm's ``config.json`` says."""
    arguments = config.get('model_args') or {}
    pretrained = config.get('pretrained_cfg') or {}
    img_size = arguments.get('img_size') or (
        pretrained.get('input_size') or [None] * 3)[1:]
    return dict(
        heads=arguments.get('num_heads'),
        norm_eps=1e-6 if config else None,  # of all its ViTs
        img_size=img_size if img_size != [None, None] else None,
        mean=_colours(pretrained.get('mean'), 255),
        std=_colours(pretrained.get('std'), 255),
        pooling=POOLINGS.get(
            arguments.get('global_pool', config.get('global_pool'))),
        classes=_classes(config.get('label_names')))


def hf_facts(config: dict, preprocessor: dict) -> dict:
    """What Hugging Face's ``config.json`` and ``preprocessor_config.json`` say."""
    facts = dict(
        heads=config.get('num_attention_heads'),
        decoder_heads=config.get('decoder_num_attention_heads'),
        img_size=config.get('image_size'),
        # The default, which a config may leave out.
        norm_eps=config.get('layer_norm_eps', 1e-12) if config else None,
        usual_eps=1e-12,
        norm_pix=config.get('norm_pix_loss'),
        mean=_colours(preprocessor.get('image_mean'), 255),
        std=_colours(preprocessor.get('image_std'), 255),
        pooling='cls',
        classes=_classes(config.get('id2label')))
    if preprocessor.get('do_normalize') is False:
        facts.update(mean=(0.0, ) * 3, std=(255.0, ) * 3)
    activation = config.get('hidden_act', 'gelu')
    if activation not in ('gelu', 'gelu_python'):
        facts['refuse'] = (f'has the activation {activation} (hidden_act), but a '
                           'plain ViT has gelu')
    return facts


def _colours(values, scale: float = 1) -> Optional[tuple]:
    if isinstance(values, (int, float)):  # Hugging Face: one for all channels
        values = [values] * 3
    return tuple(round(value * scale, 6) for value in values) if values else None


def _classes(names) -> Optional[tuple]:
    if isinstance(names, dict):  # Hugging Face: {'0': name, ...}
        names = [names[key] for key in sorted(names, key=int)]
    return tuple(map(str, names)) if names else None
