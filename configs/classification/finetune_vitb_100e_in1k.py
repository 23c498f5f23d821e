# ImageNet-1K, full fine-tuning: Table 1. MAE's recipe for ViT-B, as
# mmpretrain has it, with batches of 8 x 128.
_base_ = [
    'mmpretrain::mae/benchmarks/vit-base-p16_8xb128-coslr-100e_in1k.py',
    '../_base_/transfer.py',
]

model = dict(
    backbone=dict(
        type='MixedAEViT',
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vitb_1600e/epoch_1600.pth}}')))

train_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/imagenet}}'))
val_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/imagenet}}'))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.65))

default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))
