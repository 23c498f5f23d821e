# The same detector, trained and tested on a dozen scenes: whether it can learn them by
# heart. That takes minutes on a CPU, unlike detection in other scenes.
_base_ = 'cascade-mask-rcnn_vit-tiny_scenes.py'

data_root = '{{$DATA_ROOT:work_dirs/demo_transfer/data/dozen/coco}}'
train_dataloader = dict(batch_size=4, dataset=dict(data_root=data_root))
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        ann_file='annotations/instances_train2017.json',
        data_prefix=dict(img='train2017/')))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + '/annotations/instances_train2017.json')
test_evaluator = val_evaluator

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=50),
    dict(type='CosineAnnealingLR', by_epoch=False, begin=50, end=600, eta_min=2e-5),
]
train_cfg = dict(max_iters=600, val_interval=600)
default_hooks = dict(checkpoint=dict(interval=600))
