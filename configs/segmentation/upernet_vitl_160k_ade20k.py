# UperNet with ViT-L, BEiT's layers, drop path and layer decay for it. The
# paper reports ViT-B only.
_base_ = 'upernet_vitb_160k_ade20k.py'

model = dict(
    backbone=dict(
        arch='large',
        out_indices=(7, 11, 15, 23),
        drop_path_rate=0.2,
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vitl_300e/epoch_300.pth}}')),
    neck=dict(in_channels=1024),
    decode_head=dict(in_channels=[1024] * 4, channels=1024),
    auxiliary_head=dict(in_channels=1024))

optim_wrapper = dict(
    optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay_rate=0.95))
