# ImageNet fine-tuning at the demo's size: four classes of generated objects.
_base_ = '../../classification/finetune_vitb_100e_in1k.py'

data_preprocessor = dict(num_classes=4)
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=128,
            num_layers=6,
            num_heads=4,
            feedforward_channels=512),
        img_size=64,
        patch_size=8),
    head=dict(num_classes=4, in_channels=128),
    # Mixup and CutMix help in a hundred epochs; with them, eight are too few to learn.
    train_cfg=None)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='RandomResizedCrop',
        scale=64,
        backend='pillow',
        interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandAugment',
        policies='timm_increasing',
        num_policies=2,
        total_level=10,
        magnitude_level=9,
        magnitude_std=0.5,
        hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic')),
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[103.53, 116.28, 123.675],
        fill_std=[57.375, 57.12, 58.395]),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='ResizeEdge',
        scale=73,  # 256 for 224
        edge='short',
        backend='pillow',
        interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=64),
    dict(type='PackInputs'),
]
metainfo = dict(
    classes=['brick_disc', 'brick_star', 'gravel_disc', 'gravel_star'])
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(
        data_root='{{$DATA_ROOT:work_dirs/demo_transfer/data/objects}}',
        metainfo=metainfo,
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    dataset=dict(
        data_root='{{$DATA_ROOT:work_dirs/demo_transfer/data/objects}}',
        metainfo=metainfo,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(topk=1)
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=4e-3))
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        end=1,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=1,
        end=8,
        eta_min=1e-6,
        convert_to_iter_based=True),
]
train_cfg = dict(max_epochs=8, val_interval=8)
default_hooks = dict(
    checkpoint=dict(interval=8, max_keep_ckpts=1), logger=dict(interval=10))
