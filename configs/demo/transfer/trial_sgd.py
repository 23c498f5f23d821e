_base_ = ['../../_base_/small_set.py', '../../_base_/transfer.py']

data_preprocessor = dict(num_classes=8)
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
    head=dict(num_classes=8, in_channels=128))

train_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='RandomResizedCrop',
        scale=64,
        backend='pillow',
        interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile', imdecode_backend='pillow'),
    dict(
        type='ResizeEdge',
        scale=64,
        edge='short',
        backend='pillow',
        interpolation='bicubic'),
    dict(type='CenterCrop', crop_size=64),
    dict(type='PackInputs'),
]
data_root = '{{$DATA_ROOT:work_dirs/demo_transfer/data/objects}}'
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root, data_prefix='train',
        pipeline=train_pipeline))
val_dataloader = dict(
    batch_size=100,
    num_workers=1,
    dataset=dict(
        type='CustomDataset',
        data_root=data_root, data_prefix='val',
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator
param_scheduler = dict(T_max=400)
train_cfg = dict(max_iters=400, val_interval=100)
default_hooks = dict(checkpoint=dict(interval=400), logger=dict(interval=20))
