"""Random configurations of MixedAE: coherent ones and faulty ones."""
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
NOT_PARTS = ['MixedAEViT', [], 3, dict(), dict(type='NoSuchThing'),
             dict(type='MixedAEViT', no_such_argument=1)]
NOT_NORMS = [None, 'LN', dict(), dict(type='BN'), dict(type='LN', eps=-1)]

# Where a fault may be and what is wrong there; ``...`` removes the value.
# What the method defines, and how the parts fit each other: never trained with.
FAULTS = {
    'data_preprocessor': ['compose', [], 3, dict(type='NoSuchThing')],
    'data_preprocessor.mix_ratio': [0, 1, -.25, .3, .75, .01, *NOT_NUMBERS],
    'data_preprocessor.mode': ['half', '', None, 1, []],
    'data_preprocessor.patch_size': [5, *NOT_COUNTS],
    'data_preprocessor.std': [None, (0, 0, 0), (-1, 1, 1), (1, 2), (inf, 1, 1)],
    'data_preprocessor.crop': [1],
    'backbone': NOT_PARTS,
    'backbone.type': [..., 'NoSuchThing', 'ResNet', 7],
    'backbone.img_size': [30, (16, 16, 16), (16, 0), (16, None), *NOT_COUNTS],
    'backbone.patch_size': [3, 64, *NOT_COUNTS],
    'backbone.in_channels': [2, 4, *NOT_COUNTS],
    'backbone.arch.num_heads': [3, 5, 64, *NOT_COUNTS, ...],
    'backbone.num_sources': [1, 7, '4', 0, -2, 2.5],
    'backbone.k_ratio': [0, -.5, 1.5, .001, inf, '0.25', True, nan, []],
    'backbone.num_global_layers': [-1, 99, 1.5, '1', None, True],
    'backbone.with_cls_token': [False],
    'backbone.final_norm': [False],
    'backbone.topk': [49],
    'neck': NOT_PARTS,
    'neck.decoder_num_heads': [3, 5, 64, *NOT_COUNTS],
    'neck.embed_dim': [3, *NOT_COUNTS],
    'neck.grid': [(1, 2), (4, ), 4, None],
    'neck.patch_size': [3, *NOT_COUNTS],
    'neck.in_chans': [2, *NOT_COUNTS],
    'neck.num_sources': [7, *NOT_COUNTS],
    'neck.num_patches': [16],
    'neck.predict_feature_dim': [7],
    'neck.dropout': [.1],
    'head': [None, *NOT_PARTS],
    'head.contrast_loss': ['HomologousContrastiveLoss', 3, dict(),
                           dict(type='NoSuchThing'),
                           dict(type='HomologousContrastiveLoss', tau=1)],
    'head.contrast_loss.temperature': [0, -1, inf, 1e-30, *NOT_NUMBERS],
    'head.contrast_loss.positives': ['some', None, 1, []],
    'head.contrast_weight': [-1, inf, *NOT_NUMBERS],
    'head.contrast_input': ['both', None, 1, []],
    'head.proj_dim': NOT_COUNTS,
    'head.embed_dim': [3, *NOT_COUNTS],
    'images.channels': [1, 2, 4],
    'images.batch_size': [0, 1, 3, 5, 7],
    'images.size': [(8, 8), (15, 17), (48, 48), (1, 1)],
}
# Arguments of the libraries that the parts are built on, which check them.
OTHERS_FAULTS = {
    'data_preprocessor.mean': [0., 'grey', (1, 2), (nan, 0, 0), ('a', 'b', 'c')],
    'backbone.arch': ['enormous', None, 3, dict(), dict(embed_dims=16)],
    'backbone.arch.embed_dims': [6, 10, *NOT_COUNTS, ...],
    'backbone.arch.num_layers': [*NOT_COUNTS, ...],
    'backbone.arch.feedforward_channels': [*NOT_COUNTS, ...],
    'backbone.relative_position_bias': [True],
    'backbone.frozen_stages': [-2, 99, 1.5, '1', None, True],
    'backbone.out_indices': [99, -99, [], [0, 0], 'last', None, 1.5, ['a']],
    'backbone.out_type': ['patches', None, 1, []],
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
    'neck.decoder_embed_dim': [6, 10, *NOT_COUNTS],
    'neck.decoder_depth': NOT_COUNTS,
    'neck.mlp_ratio': [0, -1, .001, inf, *NOT_NUMBERS],
    'neck.norm_cfg': NOT_NORMS,
}


class Draw(NamedTuple):
    """One configuration to try."""
    model: dict
    images: dict  # channels, batch_size, size and dtype of the batch, as_list
    precision: str  # 'float32', or the type to autocast to
    faults: dict  # what was made wrong, by its place; empty in coherent ones


@st.composite
def configurations(draw) -> Draw:
    """Draw coherent configurations, and put one or two faults into most of them."""
    whole, faults = draw(_coherent()), {}
    if draw(st.integers(0, 3)):
        places = [(place, value) for table in (FAULTS, OTHERS_FAULTS)
                  for place, values in table.items() for value in values]
        for place, value in draw(st.lists(st.sampled_from(places), min_size=1,
                                          max_size=2)):
            if put(whole, place, value):
                faults[place] = value
    images = whole.pop('images')
    return Draw(whole, images, draw(st.sampled_from(PRECISIONS)), faults)


def put(whole: dict, place: str, value: Any) -> bool:
    """Change, add or remove a value; False where its part does not exist."""
    *path, name = place.split('.')
    for key in path:
        whole = whole.get(key)
        if not isinstance(whole, dict):
            return False
    if value is ...:
        return whole.pop(name, ...) is not ...
    whole[name] = deepcopy(value)
    return True


@st.composite
def _coherent(draw) -> dict:
    """A model whose parts fit each other, and ``images`` that fit it."""
    num_sources = draw(st.sampled_from([2, 3, 4, 5, 8]))
    rows, columns = draw(st.sampled_from(
        [grid for grid in [(2, 2), (3, 3), (4, 4), (2, 6), (5, 3), (7, 7)]
         if grid[0] * grid[1] > num_sources]))
    patch_size = draw(st.sampled_from([2, 4, 8]))
    size = rows * patch_size, columns * patch_size
    grey, flags = draw(st.integers(0, 2)) == 0, st.booleans()
    heads, layers = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    backbone = draw(_part(
        dict(type='MixedAEViT', img_size=size, patch_size=patch_size,
             in_channels=1 if grey else 3,
             arch=dict(embed_dims=heads * draw(st.sampled_from([4, 8, 16])),
                       num_layers=layers, num_heads=heads,
                       feedforward_channels=draw(st.integers(1, 64)))),
        k_ratio=st.none() | st.floats(1.01 / (rows * columns), 1),
        num_global_layers=st.integers(0, layers),
        homologous_attention=flags, segment_embedding=flags, with_cp=flags,
        frozen_stages=st.integers(-1, layers),
        out_type=st.sampled_from(['raw', 'featmap', 'cls_token']),
        out_indices=st.integers(-layers, layers - 1),
        qkv_bias=flags, pre_norm=flags, drop_rate=st.floats(0, .9),
        drop_path_rate=st.floats(0, .9), layer_scale_init_value=st.floats(0, 1),
        norm_cfg=st.sampled_from([dict(type='LN'), dict(type='LN', eps=1e-3)])))
    if rows == columns and draw(flags):
        backbone['img_size'] = size[0]
    heads = draw(st.integers(1, 4))
    neck = draw(_part(
        dict(type='MixedAEDecoder', decoder_num_heads=heads,
             decoder_embed_dim=heads * draw(st.sampled_from([4, 8])),
             decoder_depth=draw(st.integers(1, 2))),
        mlp_ratio=st.sampled_from([1, 2.5, 4]), with_cp=flags,
        norm_cfg=st.just(dict(type='LN', eps=1e-6))))
    loss = draw(_part(
        dict(type='HomologousContrastiveLoss'), temperature=st.floats(.001, 10),
        positives=st.sampled_from(['separate', 'mean'])))
    head = draw(_part(
        dict(type='MixedAEPretrainHead'), norm_pix=flags, proj_dim=st.integers(1, 32),
        contrast_loss=st.sampled_from([loss, loss, None]),
        contrast_weight=st.floats(0, 10),
        contrast_input=st.sampled_from(['after_norm', 'before_norm'])))
    # Without a decoder, the contrastive loss must train the last normalisation.
    contrast = head.get('contrast_loss', loss) is not None
    if contrast and head.get('contrast_input') != 'before_norm' and not draw(
            st.integers(0, 5)):
        neck = None
    statistics = dict(mean=[128.], std=(60, )) if grey else {}
    preprocessor = draw(_part(
        dict(mix_ratio=1 / num_sources, **statistics),
        mode=st.sampled_from(['compose', 'full']), **{} if grey else
        dict(bgr_to_rgb=flags)))
    if num_sources == 4 and not grey and draw(flags):
        preprocessor = None  # which is the default one
    return dict(
        type='MixedAE', data_preprocessor=preprocessor, backbone=backbone, neck=neck,
        head=head, images=dict(
            channels=1 if grey else 3, size=size,
            batch_size=num_sources * draw(st.integers(1, 2)),
            dtype=draw(st.sampled_from(['uint8', 'float32'])), as_list=draw(flags)))


def _part(required: dict, **optional) -> st.SearchStrategy:
    """Set some of the options; the others stay at their defaults."""
    return st.fixed_dictionaries(
        {name: st.just(value) for name, value in required.items()},
        optional=optional)
