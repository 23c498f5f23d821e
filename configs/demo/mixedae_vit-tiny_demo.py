# A small MixedAE that shows on two CPU cores, in a few minutes, what the paper
# shows on ImageNet: the reconstruction loss falls, and the attention learns
# which patches belong together (Fig. 6). `make demo` runs it on photographs;
# DATA_ROOT=/path/to/images runs it on a folder of your own.
_base_ = [
    '../_base_/optimizers/mae_adamw.py',
    '../_base_/pretrain_runtime.py',
]

model = dict(
    type='MixedAE',
    data_preprocessor=dict(type='MixedAEDataPreprocessor', mix_ratio=0.25),
    backbone=dict(
        type='MixedAEViT',
        arch=dict(
            embed_dims=128,
            num_layers=6,
            num_heads=4,
            feedforward_channels=512),
        img_size=64,
        patch_size=8,
        out_type='raw'),
    neck=dict(
        type='MixedAEDecoder',
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=4),
    head=dict(type='MixedAEPretrainHead'))

train_dataloader = dict(
    batch_size=64,
    num_workers=1,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='UnlabelledImageFolder',
        data_root='{{$DATA_ROOT:work_dirs/demo/data/train}}',
        pipeline=[
            dict(type='LoadImageTensor'),
            dict(type='TensorRandomResizedCrop', size=64),
            dict(type='torchvision/RandomHorizontalFlip', p=0.5),
            dict(type='PackInputs', meta_keys=('img_path', 'ori_shape')),
        ]))

# A small model on few images can use a larger learning rate than the paper's. With
# twice this rate, fewer layers find homologous patches.
optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=1e-3))
train_cfg = dict(type='IterBasedTrainLoop', max_iters=1800)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, end=100),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=100, end=1800),
]

default_hooks = dict(
    logger=dict(interval=25),
    checkpoint=dict(by_epoch=False, interval=250, max_keep_ckpts=2))
custom_hooks = _base_.run_hooks + [
    dict(type='TopKAccuracyHook', interval=100, num_images=128),
    dict(type='MixingVisualizationHook', interval=500),
]
log_processor = dict(by_epoch=False, window_size=50)
