# Classify images of your own: data_root/{train,val}/<class>/*. The folders in train/
# are the classes.
_base_ = '../classification/finetune_vitb_100e_in1k.py'

own_labels = 'folders'
data_root = '{{$DATA_ROOT:data/own}}'
pretrained = '{{$PRETRAINED:work_dirs/mixedae_vitb_folder/epoch_300.pth}}'
image_size = 224  # after the crop; a multiple of the patch size

train_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_prefix='train',
        pipeline=_base_.train_pipeline))
val_dataloader = dict(
    batch_size=64,
    dataset=dict(
        _delete_=True,
        type='CustomDataset',
        data_prefix='val',
        pipeline=_base_.test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(topk=1)
test_evaluator = val_evaluator

# The warm-up is a factor of the second one, which ends with the run.
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-4,
        by_epoch=True,
        end=5,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        eta_min=1e-6,
        convert_to_iter_based=True),
]
auto_scale_lr = dict(enable=True)
