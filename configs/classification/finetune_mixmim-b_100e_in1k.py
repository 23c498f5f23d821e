# ImageNet-1K, full fine-tuning of MixMIM-B, the row of Table 1 that is not a plain ViT:
# the recipe of the others, with MixMIM's own layer decay. Its backbone and weights are
# mmpretrain's.
_base_ = 'finetune_vitb_100e_in1k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='MixMIMTransformer',
        arch='base',
        drop_path_rate=0.1,
        init_cfg=dict(
            type='Pretrained',
            complete=True,
            checkpoint='{{$PRETRAINED:checkpoints/mixmim-base-p16_300e.pth}}')),
    head=dict(in_channels=1024))

optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
