# ImageNet-1K in the usual layout, without labels: DATA_ROOT/train/<class>/*.
# 8 processes of 512 images make the paper's batch of 4096.
train_pipeline = [
    dict(type='LoadImageTensor'),
    dict(
        type='TensorRandomResizedCrop',
        size=224,
        scale=(0.2, 1.0),
        interpolation='bicubic'),
    dict(type='torchvision/RandomHorizontalFlip', p=0.5),
    dict(type='PackInputs', meta_keys=('img_path', 'ori_shape')),
]

train_dataloader = dict(
    batch_size=512,
    num_workers=8,
    persistent_workers=True,
    drop_last=True,  # a batch must be whole groups
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabelledImageFolder',
        data_root='{{$DATA_ROOT:data/imagenet}}',
        data_prefix=dict(img_path='train'),
        pipeline=train_pipeline))
