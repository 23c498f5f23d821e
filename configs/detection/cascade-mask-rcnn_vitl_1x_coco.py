# Cascade Mask R-CNN with ViT-L. The paper reports ViT-B only.
_base_ = 'cascade-mask-rcnn_vitb_1x_coco.py'

model = dict(
    backbone=dict(
        arch='large',
        out_indices=(7, 11, 15, 23),
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vitl_300e/epoch_300.pth}}')),
    neck=[
        dict(
            type='ViTFeaturePyramid',
            in_channels=1024,
            patch_size=16,
            norm_cfg=dict(type='SyncBN', requires_grad=True)),
        dict(
            type='FPN', in_channels=[1024] * 4, out_channels=256, num_outs=5),
    ])
