# UperNet with ViT-H/14: ViT-L's recipe, and layers at the same shares of the depth.
# The paper reports ViT-B only.
_base_ = 'upernet_vitl_160k_ade20k.py'

model = dict(
    backbone=dict(
        arch='vit-h',
        patch_size=14,
        out_indices=(10, 15, 21, 31),
        drop_path_rate=0.3,
        with_cp=True,
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vith_300e_fsdp/epoch_300.pth}}'
        )),
    neck=dict(in_channels=1280, patch_size=14),
    decode_head=dict(in_channels=[1280] * 4, channels=1280),
    auxiliary_head=dict(in_channels=1280))
