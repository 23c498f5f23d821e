"""What each library writes beside the weights of a ViT: its configuration."""
from typing import Any, Dict, Tuple

from mmengine.config import Config

from ..models.vit_sizes import SIZES
from ..utils.preprocessing import resize_side
from ..version import __version__
from .vit import Description, Vit, backbone_config

# (width, depth, patch) of the architectures that timm has a name for; its name
# only labels the weights: all sizes are given as arguments.
TIMM_NAMES = {
    (size.width, size.depth, patch): f'vit_{size.timm}_patch{patch}_224'
    for size in SIZES.values() for patch in size.patches
}


def mm_config_text(vit: Vit) -> str:
    """Config of a plain mmpretrain model, as checkpoints carry it."""
    sizes = vit.description
    backbone = dict(type='VisionTransformer', **backbone_config(vit))
    model: Dict[str, Any] = dict(
        backbone=backbone,
        data_preprocessor=dict(
            mean=list(sizes.mean), std=list(sizes.std), to_rgb=True))
    if sizes.decoder:
        model.update(
            type='MAE',
            neck=dict(type='MAEPretrainDecoder', **decoder_config(sizes)),
            head=dict(
                type='MAEPretrainHead',
                norm_pix=sizes.norm_pix,
                patch_size=sizes.patch_size,
                loss=dict(type='PixelReconstructionLoss', criterion='L2')))
        backbone['type'] = 'MAEViT'
        del backbone['qkv_bias'], backbone['layer_scale_init_value']
        if sizes.in_channels == 3:  # the only number that mmpretrain's MAEViT knows
            del backbone['in_channels']
    elif sizes.num_classes:
        on_mean = sizes.pooling == 'mean'
        backbone['out_type'] = 'avg_featmap' if on_mean else 'cls_token'
        model.update(
            type='ImageClassifier',
            head=dict(
                type='LinearClsHead' if on_mean else 'VisionTransformerClsHead',
                num_classes=sizes.num_classes,
                in_channels=sizes.encoder.width))
    return Config(dict(model=model, default_scope='mmpretrain')).pretty_text


def decoder_config(sizes: Description) -> dict:
    """Arguments of ``MAEPretrainDecoder`` for a ViT that has a decoder."""
    rows, columns = sizes.grid
    decoder = sizes.decoder
    assert decoder is not None
    return dict(
        num_patches=rows * columns, patch_size=sizes.patch_size,
        in_chans=sizes.in_channels, embed_dim=sizes.encoder.width,
        decoder_embed_dim=decoder.width, decoder_depth=decoder.depth,
        decoder_num_heads=decoder.heads,
        mlp_ratio=decoder.mlp_width / decoder.width,
        norm_cfg=dict(type='LN', eps=sizes.norm_eps))


def timm_arguments(vit: Vit) -> dict:
    """Arguments of timm's ``VisionTransformer``."""
    sizes, encoder = vit.description, vit.description.encoder
    return dict(
        img_size=_one_or_two(sizes.img_size), patch_size=sizes.patch_size,
        in_chans=sizes.in_channels, embed_dim=encoder.width, depth=encoder.depth,
        num_heads=encoder.heads,
        mlp_ratio=encoder.mlp_width / encoder.width,
        qkv_bias=sizes.qkv_bias,
        init_values=1. if sizes.layer_scale else None,
        num_classes=sizes.num_classes,
        global_pool='avg' if sizes.pooling == 'mean' else 'token',
        fc_norm='backbone.ln2.weight' in vit.weights)


def timm_configs(vit: Vit) -> Dict[str, dict]:
    """The ``config.json`` of timm, by its name."""
    sizes, encoder = vit.description, vit.description.encoder
    arguments = timm_arguments(vit)
    config = dict(
        architecture=TIMM_NAMES.get(
            (encoder.width, encoder.depth, sizes.patch_size),
            'vit_base_patch16_224'),
        num_classes=arguments.pop('num_classes'),
        num_features=encoder.width,
        global_pool=arguments['global_pool'],
        model_args=arguments,
        pretrained_cfg=dict(
            input_size=[sizes.in_channels, *sizes.img_size],
            crop_pct=max(sizes.img_size) / resize_side(max(sizes.img_size)),
            crop_mode='center',
            interpolation='bicubic',
            mean=_shares(sizes.mean),
            std=_shares(sizes.std),
            num_classes=sizes.num_classes, pool_size=None,
            first_conv='patch_embed.proj', classifier='head'))
    if sizes.classes:
        config['label_names'] = list(sizes.classes)
    return {'config.json': config}


def hf_config(sizes: Description) -> dict:
    """Values of ``ViTConfig`` or ``ViTMAEConfig``."""
    encoder, decoder = sizes.encoder, sizes.decoder
    config = dict(
        architectures=['ViTModel'], model_type='vit',
        hidden_size=encoder.width, num_hidden_layers=encoder.depth,
        num_attention_heads=encoder.heads, intermediate_size=encoder.mlp_width,
        layer_norm_eps=sizes.norm_eps, qkv_bias=sizes.qkv_bias,
        image_size=_one_or_two(sizes.img_size), patch_size=sizes.patch_size,
        num_channels=sizes.in_channels)
    if decoder:
        config.update(
            architectures=['ViTMAEForPreTraining'], model_type='vit_mae',
            decoder_hidden_size=decoder.width,
            decoder_num_hidden_layers=decoder.depth,
            decoder_num_attention_heads=decoder.heads,
            decoder_intermediate_size=decoder.mlp_width,
            norm_pix_loss=sizes.norm_pix, mask_ratio=0.75)
    elif sizes.num_classes:
        names = sizes.classes or [f'class {i}' for i in range(sizes.num_classes)]
        config.update(
            architectures=['ViTForImageClassification'],
            id2label={str(i): name for i, name in enumerate(names)},
            label2id={name: i for i, name in enumerate(names)})
    return config


def hf_configs(vit: Vit) -> Dict[str, dict]:
    """The two JSON files of Hugging Face, by their names."""
    sizes = vit.description
    height, width = sizes.img_size
    # This one resizes the shorter side and cuts the centre out, as we do.
    preprocessor = dict(
        image_processor_type='BitImageProcessor',
        do_convert_rgb=sizes.in_channels == 3,
        do_resize=True, size=dict(shortest_edge=resize_side(max(height, width))),
        resample=3,  # bicubic
        do_center_crop=True, crop_size=dict(height=height, width=width),
        do_rescale=True, rescale_factor=1 / 255,
        do_normalize=True, image_mean=_shares(sizes.mean),
        image_std=_shares(sizes.std))
    return {'config.json': hf_config(sizes), 'preprocessor_config.json': preprocessor}


def mm_meta(vit: Vit, source: str) -> dict:
    """``meta`` of an mmengine checkpoint."""
    meta: Dict[str, Any] = dict(cfg=mm_config_text(vit), converted_from=source,
                                mixedae_mm_version=__version__)
    if vit.description.classes:
        meta['dataset_meta'] = dict(classes=list(vit.description.classes))
    return meta


def _one_or_two(size: Tuple[int, int]):
    return size[0] if size[0] == size[1] else list(size)


def _shares(values) -> list:
    return [round(value / 255, 10) for value in values]
