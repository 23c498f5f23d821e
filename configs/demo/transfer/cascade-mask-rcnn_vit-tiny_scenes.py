# Cascade Mask R-CNN at the demo's size: generated scenes in COCO's layout, tested on
# scenes that it was not trained on. For a GPU; not run so far. The heads are thin, so
# that a step takes less than a second on a core.
_base_ = '../../detection/cascade-mask-rcnn_vitb_1x_coco.py'

norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    backbone=dict(
        arch=dict(
            _delete_=True,
            embed_dims=128,
            num_layers=6,
            num_heads=4,
            feedforward_channels=512),
        img_size=64,
        patch_size=8,
        out_indices=(1, 2, 3, 5),
        drop_path_rate=0.0),
    neck=[
        dict(
            type='ViTFeaturePyramid',
            in_channels=128,
            patch_size=8,
            norm_cfg=norm_cfg),
        # So few steps need a large learning rate. Without norms the loss of the RPN
        # then grows, and the classes stay at the accuracy of guessing.
        dict(
            type='FPN',
            in_channels=[128] * 4,
            out_channels=32,
            num_outs=5,
            norm_cfg=norm_cfg),
    ],
    rpn_head=dict(
        in_channels=32, feat_channels=32, anchor_generator=dict(scales=[6])),
    roi_head=dict(
        # The finest level is for objects up to 28 pixels, as up to 112 in COCO.
        bbox_roi_extractor=dict(out_channels=32, finest_scale=14),
        mask_roi_extractor=dict(out_channels=32, finest_scale=14),
        bbox_head=[
            dict(
                type='ConvFCBBoxHead',
                num_shared_convs=1,
                num_shared_fcs=1,
                in_channels=32,
                conv_out_channels=32,
                fc_out_channels=64,
                roi_feat_size=7,
                num_classes=4,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder',
                    target_means=[0., 0., 0., 0.],
                    target_stds=target_stds),
                reg_class_agnostic=False,
                reg_decoded_bbox=True,
                norm_cfg=norm_cfg,
                loss_cls=dict(
                    type='CrossEntropyLoss',
                    use_sigmoid=False,
                    loss_weight=1.0),
                loss_bbox=dict(type='GIoULoss', loss_weight=10.0))
            for target_stds in ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1],
                                [0.033, 0.033, 0.067, 0.067])
        ],
        mask_head=dict(
            num_convs=2, in_channels=32, conv_out_channels=32, num_classes=4)),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=300, max_per_img=300),
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=overlap,
                    neg_iou_thr=overlap,
                    min_pos_iou=overlap,
                    match_low_quality=False,
                    ignore_iof_thr=-1),
                sampler=dict(
                    type='RandomSampler',
                    num=32,
                    pos_fraction=0.25,
                    neg_pos_ub=-1,
                    add_gt_as_proposals=True),
                mask_size=28,
                pos_weight=-1,
                debug=False) for overlap in (0.5, 0.6, 0.7)
        ]),
    test_cfg=dict(rpn=dict(nms_pre=100, max_per_img=100)))

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale_factor=1.0),  # mmdet asks for the factor
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(
        type='PackDetInputs',
        meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape',
                   'scale_factor')),
]
data_root = '{{$DATA_ROOT:work_dirs/demo_transfer/data/scenes/coco}}'
metainfo = dict(
    classes=('brick_disc', 'gravel_disc', 'brick_star', 'gravel_star'),
    palette=[(230, 60, 60), (255, 150, 120), (60, 90, 230), (120, 190, 255)])
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        filter_cfg=dict(min_size=1),
        pipeline=train_pipeline))
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=data_root, metainfo=metainfo, pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_val2017.json')
test_evaluator = val_evaluator

optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=5))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=500),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=500, end=20000, eta_min=2e-5),
]
train_cfg = dict(
    _delete_=True, type='IterBasedTrainLoop', max_iters=20000, val_interval=20000)
default_hooks = dict(
    checkpoint=dict(by_epoch=False, interval=2000, max_keep_ckpts=1),
    logger=dict(interval=20, log_metric_by_epoch=False))
log_processor = dict(by_epoch=False)
