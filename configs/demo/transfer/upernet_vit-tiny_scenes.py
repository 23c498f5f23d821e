# UperNet at the demo's size: generated scenes in ADE20K's layout.
_base_ = '../../segmentation/upernet_vitb_160k_ade20k.py'

model = dict(
    data_preprocessor=dict(
        size=(96, 96), test_cfg=dict(size_divisor=8)),
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=128,
            num_layers=6,
            num_heads=4,
            feedforward_channels=512),
        img_size=96,
        patch_size=8,
        out_indices=(1, 2, 3, 5)),
    neck=dict(in_channels=128, patch_size=8),
    decode_head=dict(in_channels=[128] * 4, channels=64, num_classes=5),
    auxiliary_head=dict(in_channels=128, channels=64, num_classes=5),
    test_cfg=dict(crop_size=(96, 96), stride=(64, 64)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(512, 128),
        ratio_range=(0.5, 2.0),
        keep_ratio=True),
    dict(type='RandomCrop', crop_size=(96, 96), cat_max_ratio=0.95),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(512, 128), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
# `tools/test.py --tta`: the six scales of ADE20K, at this size.
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=(4 * side, side), keep_ratio=True)
             for side in (64, 96, 128, 160, 192, 224)],
            [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
            [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]
        ])
]
scenes = dict(
    type='BaseSegDataset',  # ADE20KDataset knows ADE20K's classes only
    data_root='{{$DATA_ROOT:work_dirs/demo_transfer/data/scenes/ade}}',
    reduce_zero_label=True,
    metainfo=dict(
        classes=('background', 'brick_disc', 'gravel_disc', 'brick_star',
                 'gravel_star'),
        palette=[[120, 120, 120], [230, 60, 60], [255, 150, 120],
                 [60, 90, 230], [120, 190, 255]]))
train_dataloader = dict(
    batch_size=8,
    num_workers=1,
    dataset=dict(**scenes, pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1, dataset=dict(**scenes, pipeline=test_pipeline))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20,
         end=900),
]
train_cfg = dict(max_iters=900, val_interval=900)
default_hooks = dict(checkpoint=dict(interval=900, max_keep_ckpts=1))
