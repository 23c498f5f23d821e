# Detect objects of your own, in COCO's format: data_root/{train,val}/*, with
# data_root/annotations/{train,val}.json. The categories of the first are the classes.
_base_ = '../detection/cascade-mask-rcnn_vitb_1x_coco.py'

own_labels = 'coco'
data_root = '{{$DATA_ROOT:data/own}}'
pretrained = '{{$PRETRAINED:work_dirs/mixedae_vitb_folder/epoch_300.pth}}'
image_size = 800  # of the shorter side, the largest one in the training

train_dataloader = dict(
    dataset=dict(
        ann_file='annotations/train.json', data_prefix=dict(img='train/')))
val_dataloader = dict(
    dataset=dict(ann_file='annotations/val.json', data_prefix=dict(img='val/')))
test_dataloader = val_dataloader

# The warm-up is a factor of the second one, which ends with the run.
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, end=500),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        eta_min=1e-6,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True)
