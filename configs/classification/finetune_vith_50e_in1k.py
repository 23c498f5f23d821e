# ImageNet-1K, full fine-tuning of ViT-H/14: MAE's recipe for it, as mmpretrain has
# it. The paper reports ViT-B only.
_base_ = [
    'mmpretrain::mae/benchmarks/vit-huge-p14_8xb128-coslr-50e_in1k.py',
    '../_base_/transfer.py',
]

model = dict(
    backbone=dict(
        type='MixedAEViT',
        arch='vit-h',
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vith_300e_fsdp/epoch_300.pth}}'
        )))

train_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/imagenet}}'))
val_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/imagenet}}'))
test_dataloader = val_dataloader

optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(_delete_=True, layer_decay_rate=0.75))

default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))
