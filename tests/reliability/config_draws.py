"""Random configurations of MixedAE, for the fuzzer: coherent ones and faulty ones."""
from copy import deepcopy
from math import inf, nan
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from mmengine.utils import digit_version

PRECISIONS = ['float32', 'float32', 'bfloat16']
if digit_version(torch.__version__) >= digit_version('2.4'):
    PRECISIONS.append('float16')  # which autocast has not had on CPUs before

NOT_NUMBERS = ['8', None, True, [], nan]
NOT_COUNTS = [0, -1, 2.5, inf, *NOT_NUMBERS]
NOT_FLAGS = [None, 'yes', 1, []]
NOT_PARTS = ['MixedAEViT', [], 3, dict(), dict(type='NoSuchThing'),
             dict(type='MixedAEViT', no_such_argument=1)]
NOT_NORMS = [None, 'LN', dict(), dict(type='BN'), dict(type='LN', eps=-1)]

# Where a fault may be, and what is wrong there. ``...`` removes the value.
FAULTS = {
    'data_preprocessor': ['compose', [], 3, dict(type='NoSuchThing')],
    'data_preprocessor.mix_ratio': [0, 1, -.25, .3, .75, .01, *NOT_NUMBERS],
    'data_preprocessor.mode': ['half', '', None, 1, []],
    'data_preprocessor.patch_size': [5, *NOT_COUNTS],
    'data_preprocessor.mean': [0., 'grey', (1, 2), (nan, 0, 0), ('a', 'b', 'c')],
    'data_preprocessor.std': [None, (0, 0, 0), (-1, 1, 1), (1, 2), (inf, 1, 1)],
    'data_preprocessor.bgr_to_rgb': NOT_FLAGS,
    'data_preprocessor.crop': [1],
    'backbone': NOT_PARTS,
    'backbone.type': [..., 'NoSuchThing', 'ResNet', 7],
    'backbone.arch': ['enormous', None, 3, dict(), dict(embed_dims=16)],
    'backbone.arch.embed_dims': [6, 10, *NOT_COUNTS, ...],
    'backbone.arch.num_layers': [*NOT_COUNTS, ...],
    'backbone.arch.num_heads': [3, 5, 64, *NOT_COUNTS, ...],
    'backbone.arch.feedforward_channels': [*NOT_COUNTS, ...],
    'backbone.img_size': [30, (16, ), (16, 16, 16), (16, 0), (16, None), *NOT_COUNTS],
    'backbone.patch_size': [3, 64, (8, 8), *NOT_COUNTS],
    'backbone.in_channels': [2, 4, *NOT_COUNTS],
    'backbone.num_sources': [1, 7, '4', 0, -2, 2.5],
    'backbone.k_ratio': [0, -.5, 1.5, .001, inf, '0.25', True, nan, []],
    'backbone.num_global_layers': [-1, 99, 1.5, '1', None, True],
    'backbone.homologous_attention': NOT_FLAGS,
    'backbone.segment_embedding': NOT_FLAGS,
    'backbone.homologous_in_transfer': NOT_FLAGS,
    'backbone.relative_position_bias': [True, *NOT_FLAGS],
    'backbone.with_cp': NOT_FLAGS,
    'backbone.frozen_stages': [-2, 99, 1.5, '1', None, True],
    'backbone.out_indices': [99, -99, [], [0, 0], 'last', None, 1.5, ['a']],
    'backbone.out_type': ['patches', None, 1, []],
    'backbone.with_cls_token': [False, *NOT_FLAGS],
    'backbone.final_norm': [False, *NOT_FLAGS],
    'backbone.pre_norm': NOT_FLAGS,
    'backbone.qkv_bias': NOT_FLAGS,
    'backbone.drop_rate': [-.1, 1, 1.5, *NOT_NUMBERS],
    'backbone.drop_path_rate': [-.1, 1, 1.5, *NOT_NUMBERS],
    'backbone.layer_scale_init_value': [-1, inf, *NOT_NUMBERS],
    'backbone.interpolate_mode': ['best', None, 2],
    'backbone.norm_cfg': NOT_NORMS,
    'backbone.patch_cfg': [None, 3, dict(stride=4), dict(no_such_argument=1)],
    'backbone.layer_cfgs': [None, 3, [], dict(no_such_argument=1),
                            dict(attn_drop_rate=.1)],
    'backbone.init_cfg': ['mae', 3, dict(), dict(type='NoSuchThing'),
                          dict(type='Pretrained', checkpoint='no/such.pth')],
    'backbone.topk': [49],
    'neck': NOT_PARTS,
    'neck.embed_dim': [3, *NOT_COUNTS],
    'neck.grid': [(1, 2), (4, ), 4, None],
    'neck.patch_size': [3, *NOT_COUNTS],
    'neck.in_chans': [2, *NOT_COUNTS],
    'neck.num_sources': [7, *NOT_COUNTS],
    'neck.num_patches': [16],
    'neck.predict_feature_dim': [7],
    'neck.decoder_embed_dim': [6, 10, *NOT_COUNTS],
    'neck.decoder_depth': NOT_COUNTS,
    'neck.decoder_num_heads': [3, 5, 64, *NOT_COUNTS],
    'neck.mlp_ratio': [0, -1, .001, inf, *NOT_NUMBERS],
    'neck.norm_cfg': NOT_NORMS,
    'neck.with_cp': NOT_FLAGS,
    'neck.dropout': [.1],
    'head': [None, *NOT_PARTS],
    'head.contrast_loss': ['HomologousContrastiveLoss', 3, dict(),
                           dict(type='NoSuchThing'),
                           dict(type='HomologousContrastiveLoss', tau=1)],
    'head.contrast_loss.temperature': [0, -1, inf, 1e-30, *NOT_NUMBERS],
    'head.contrast_loss.positives': ['some', None, 1, []],
    'head.contrast_weight': [-1, inf, *NOT_NUMBERS],
    'head.contrast_input': ['both', None, 1, []],
    'head.norm_pix': NOT_FLAGS,
    'head.proj_dim': NOT_COUNTS,
    'head.embed_dim': [3, *NOT_COUNTS],
    'images.channels': [1, 2, 4],
    'images.batch_size': [0, 1, 3, 5, 7],
    'images.size': [(8, 8), (15, 17), (48, 48), (1, 1)],
}


class Draw(NamedTuple):
    """One configuration to try.

    Attributes:
        model (dict): Of ``MixedAE``.
        images (dict): ``channels``, ``batch_size``, ``size`` and ``dtype`` of
            the batch, and whether it comes ``as_list``.
        precision (str): ``'float32'``, or the type to autocast to.
        faults (dict): What was made wrong, by its place; none in coherent ones.
    """
    model: dict
    images: dict
    precision: str
    faults: dict


@st.composite
def configurations(draw) -> Draw:
    """Coherent configurations, most of them with one or two faults."""
    model, images = draw(_coherent())
    whole = dict(model, images=images)
    faults = {}
    if draw(st.integers(0, 3)):
        for place in draw(st.lists(st.sampled_from(sorted(FAULTS)), min_size=1,
                                   max_size=2, unique=True)):
            value = draw(st.sampled_from(FAULTS[place]))
            if put(whole, place.split('.'), deepcopy(value)):
                faults[place] = value
    images = whole.pop('images')
    precision = draw(st.sampled_from(PRECISIONS))
    return Draw(whole, images, precision, faults)


@st.composite
def _coherent(draw):
    """A model whose parts fit each other, and images that fit it."""
    num_sources = draw(st.sampled_from([2, 3, 4, 5, 8]))
    rows, columns = draw(st.sampled_from(
        [grid for grid in [(2, 2), (3, 3), (4, 4), (2, 6), (5, 3), (7, 7)]
         if grid[0] * grid[1] > num_sources]))
    num_patches = rows * columns
    patch_size = draw(st.sampled_from([2, 4, 8]))
    size = rows * patch_size, columns * patch_size
    heads, layers = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    arch = dict(
        embed_dims=heads * draw(st.sampled_from([4, 8, 16])), num_layers=layers,
        num_heads=heads, feedforward_channels=draw(st.integers(1, 64)))
    backbone = dict(type='MixedAEViT', arch=arch, img_size=size, patch_size=patch_size)
    if rows == columns and draw(st.booleans()):
        backbone['img_size'] = size[0]
    _sometimes(draw, backbone, dict(
        k_ratio=st.one_of(st.none(), st.floats(1.01 / num_patches, 1)),
        num_global_layers=st.integers(0, layers),
        homologous_attention=st.booleans(),
        segment_embedding=st.booleans(),
        with_cp=st.booleans(),
        frozen_stages=st.integers(-1, layers),
        out_type=st.sampled_from(['raw', 'featmap', 'cls_token', 'avg_featmap']),
        out_indices=st.integers(-layers, layers - 1),
        qkv_bias=st.booleans(),
        pre_norm=st.booleans(),
        drop_rate=st.floats(0, .9),
        drop_path_rate=st.floats(0, .9),
        layer_scale_init_value=st.floats(0, 1),
        norm_cfg=st.sampled_from([dict(type='LN'), dict(type='LN', eps=1e-3)])))
    decoder_heads = draw(st.integers(1, 4))
    neck = dict(
        type='MixedAEDecoder', decoder_num_heads=decoder_heads,
        decoder_embed_dim=decoder_heads * draw(st.sampled_from([4, 8])),
        decoder_depth=draw(st.integers(1, 2)))
    _sometimes(draw, neck, dict(
        mlp_ratio=st.sampled_from([1, 2.5, 4]), with_cp=st.booleans(),
        norm_cfg=st.just(dict(type='LN', eps=1e-6))))
    head = dict(type='MixedAEPretrainHead')
    loss = dict(type='HomologousContrastiveLoss')
    _sometimes(draw, loss, dict(
        temperature=st.floats(.001, 10),
        positives=st.sampled_from(['separate', 'mean'])))
    _sometimes(draw, head, dict(
        contrast_loss=st.sampled_from([loss, loss, None]),
        contrast_weight=st.floats(0, 10),
        contrast_input=st.sampled_from(['after_norm', 'before_norm']),
        norm_pix=st.booleans(),
        proj_dim=st.integers(1, 32)))
    has_contrast = head.get('contrast_loss', loss) is not None
    preprocessor = dict(mix_ratio=1 / num_sources)
    channels = draw(st.sampled_from([3, 3, 1]))
    if channels == 1:
        backbone['in_channels'] = 1
        preprocessor.update(mean=[128.], std=(60, ))
    else:
        _sometimes(draw, preprocessor, dict(bgr_to_rgb=st.booleans()))
    _sometimes(draw, preprocessor, dict(mode=st.sampled_from(['compose', 'full'])))
    if num_sources == 4 and draw(st.booleans()):
        preprocessor = preprocessor if channels == 1 else None
    images = dict(
        channels=channels, size=size,
        batch_size=num_sources * draw(st.integers(1, 2)),
        dtype=draw(st.sampled_from(['uint8', 'float32'])),
        as_list=draw(st.booleans()))
    without_neck = has_contrast and draw(st.integers(0, 5)) == 0
    return dict(
        type='MixedAE', data_preprocessor=preprocessor, backbone=backbone,
        neck=None if without_neck else neck, head=head), images


def _sometimes(draw, part: dict, options: dict) -> None:
    """Set some of the options; the others stay at their defaults."""
    for name in draw(st.sets(st.sampled_from(sorted(options)))):
        part[name] = draw(options[name])


def put(whole: dict, place: list, value: Any) -> bool:
    """Change, add or remove a value; False where there is no such part."""
    *path, name = place
    for key in path:
        whole = whole.get(key)
        if not isinstance(whole, dict):
            return False
    if value is ...:
        return whole.pop(name, ...) is not ...
    whole[name] = value
    return True
