# Cascade Mask R-CNN with ViT-H/14: ViT-L's recipe, and layers at the same shares of
# the depth. The paper reports ViT-B only.
_base_ = 'cascade-mask-rcnn_vitl_1x_coco.py'

model = dict(
    backbone=dict(
        arch='vit-h',
        patch_size=14,
        out_indices=(10, 15, 21, 31),
        with_cp=True,
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vith_300e_fsdp/epoch_300.pth}}'
        )),
    neck=[
        dict(
            type='ViTFeaturePyramid',
            in_channels=1280,
            patch_size=14,
            norm_cfg=dict(type='SyncBN', requires_grad=True)),
        dict(
            type='FPN', in_channels=[1280] * 4, out_channels=256, num_outs=5),
    ])
