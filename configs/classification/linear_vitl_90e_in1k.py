# ImageNet-1K, linear probing: MAE's protocol, as mmpretrain has it (LARS, CLS
# token through a batch norm, 8 x 2048 images).
_base_ = [
    'mmpretrain::mae/benchmarks/vit-large-p16_8xb2048-linear-coslr-90e_in1k.py',
    '../_base_/transfer.py',
]

model = dict(
    backbone=dict(
        type='MixedAEViT',
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vitl_300e/epoch_300.pth}}')))

train_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/imagenet}}'))
val_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:data/imagenet}}'))
test_dataloader = val_dataloader

auto_scale_lr = dict(base_batch_size=8 * 2048)

default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook'))
