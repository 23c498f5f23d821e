"""Configs of the three toolboxes that train in a second, and images for them."""

import json

import images

RUNTIME = '''
custom_imports = dict(imports=['mixedae_mm'])
default_scope = {scope!r}
env_cfg = dict(cudnn_benchmark=False,
               mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
               dist_cfg=dict(backend='nccl'))
default_hooks = dict(
    timer=dict(type='IterTimerHook'), logger=dict(type='LoggerHook', interval=1),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type={hook!r}))
vis_backends = [dict(type='LocalVisBackend')]
visualizer = dict(type={visualizer!r}, vis_backends=vis_backends)
randomness = dict(seed=0)
train_cfg = dict(by_epoch=True, max_epochs=1)
val_cfg = test_cfg = dict()
optim_wrapper = dict(type='AmpOptimWrapper', loss_scale='dynamic',
                     optimizer=dict(type='SGD', lr=1e-4))
'''

CLASSIFICATION = RUNTIME.format(scope='mmpretrain', hook='VisualizationHook',
                                visualizer='UniversalVisualizer') + '''
model = dict(
    type='ImageClassifier',
    backbone=dict(type='VisionTransformer', img_size=32, patch_size=16,
                  arch=dict(embed_dims=16, num_layers=1, num_heads=2,
                            feedforward_channels=32)),
    head=dict(type='VisionTransformerClsHead', num_classes=2, in_channels=16))
data_preprocessor = dict(num_classes=2)
pipeline = [dict(type='LoadImageFromFile'), dict(type='PackInputs')]
train_dataloader = dict(
    batch_size=4, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='CustomDataset', data_root='images', pipeline=pipeline))
val_dataloader = test_dataloader = dict(
    batch_size=4, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(type='CustomDataset', data_root='images', pipeline=pipeline))
val_evaluator = test_evaluator = dict(type='Accuracy', topk=1)
auto_scale_lr = dict(base_batch_size=8)
'''

SEGMENTATION = RUNTIME.format(scope='mmseg', hook='SegVisualizationHook',
                              visualizer='SegLocalVisualizer') + '''
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(type='SegDataPreProcessor', size=(32, 32),
                           pad_val=0, seg_pad_val=255),
    backbone=dict(type='ResNetV1c', depth=18, base_channels=4, stem_channels=4,
                  num_stages=4, out_indices=(0, 1, 2, 3), norm_cfg=norm_cfg),
    decode_head=dict(type='FCNHead', in_channels=32, in_index=3, channels=8,
                     num_convs=1, concat_input=False, num_classes=2,
                     norm_cfg=norm_cfg, loss_decode=dict(type='CrossEntropyLoss')),
    train_cfg=dict(), test_cfg=dict(mode='whole'))
dataset = dict(
    type='BaseSegDataset', data_root='segmentation', img_suffix='.png',
    metainfo=dict(classes=('back', 'front'), palette=[[0, 0, 0], [255, 0, 0]]),
    data_prefix=dict(img_path='images', seg_map_path='masks'))
train_dataloader = dict(
    batch_size=2, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')]))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')]))
val_evaluator = test_evaluator = dict(type='IoUMetric')
tta_model = dict(type='SegTTAModel')
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='TestTimeAug', transforms=[
        [dict(type='RandomFlip', prob=0.), dict(type='RandomFlip', prob=1.)],
        [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])]
'''

DETECTION = RUNTIME.format(scope='mmdet', hook='DetVisualizationHook',
                           visualizer='DetLocalVisualizer') + '''
model = dict(
    type='RetinaNet',
    data_preprocessor=dict(type='DetDataPreprocessor', pad_size_divisor=32),
    backbone=dict(type='ResNet', depth=18, base_channels=4, num_stages=4,
                  out_indices=(0, 1, 2, 3), norm_cfg=dict(type='BN')),
    neck=dict(type='FPN', in_channels=[4, 8, 16, 32], out_channels=8, start_level=1,
              add_extra_convs='on_output', num_outs=5),
    bbox_head=dict(
        type='RetinaHead', num_classes=1, in_channels=8, stacked_convs=1,
        feat_channels=8,
        anchor_generator=dict(type='AnchorGenerator', octave_base_scale=4,
                              scales_per_octave=1, ratios=[1.0],
                              strides=[8, 16, 32, 64, 128]),
        bbox_coder=dict(type='DeltaXYWHBBoxCoder'),
        loss_cls=dict(type='FocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='L1Loss')),
    train_cfg=dict(assigner=dict(type='MaxIoUAssigner', pos_iou_thr=0.5,
                                 neg_iou_thr=0.4, min_pos_iou=0, ignore_iof_thr=-1),
                   sampler=dict(type='PseudoSampler'), allowed_border=-1,
                   pos_weight=-1, debug=False),
    test_cfg=dict(nms_pre=100, min_bbox_size=0, score_thr=0.0,
                  nms=dict(type='nms', iou_threshold=0.5), max_per_img=5))
dataset = dict(type='CocoDataset', data_root='detection', ann_file='boxes.json',
               data_prefix=dict(img='images/'), metainfo=dict(classes=('thing',)))
train_dataloader = dict(
    batch_size=2, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(**dataset, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs')]))
val_dataloader = test_dataloader = dict(
    batch_size=1, num_workers=1, sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(**dataset, test_mode=True, pipeline=[
        dict(type='LoadImageFromFile'), dict(type='Resize', scale=(64, 64)),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape',
                                              'img_shape', 'scale_factor'))]))
val_evaluator = test_evaluator = dict(
    type='CocoMetric', ann_file='detection/boxes.json', metric='bbox')
'''


def write_project(folder):
    """Fill a folder with the three configs and eight images for each."""
    boxes = dict(images=[], annotations=[], categories=[dict(id=1, name='thing')])
    for i in range(8):
        pixels = images.noise((32, 32), i)
        images.save(folder / 'images' / ('cat', 'dog')[i % 2] / f'{i}.png', pixels)
        images.save(folder / f'segmentation/images/{i}.png', pixels)
        images.save(folder / f'segmentation/masks/{i}.png', pixels[..., 0] % 2)
        images.save(folder / f'detection/images/{i}.png', images.noise((64, 64), i))
        boxes['images'].append(dict(id=i, file_name=f'{i}.png', width=64, height=64))
        boxes['annotations'].append(dict(
            id=i + 1, image_id=i, category_id=1, bbox=[8, 8, 32, 32], area=1024,
            iscrowd=0))
    (folder / 'detection/boxes.json').write_text(json.dumps(boxes))
    (folder / 'classify.py').write_text(CLASSIFICATION)
    (folder / 'segment.py').write_text(SEGMENTATION)
    (folder / 'detect.py').write_text(DETECTION)
