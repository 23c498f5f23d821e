# Segment images of your own: data_root/{images,masks}/{train,val}/*, each mask with the
# name of its image. Value 0 in a mask is the first one of classes; 255 is ignored.
_base_ = '../segmentation/upernet_vitb_160k_ade20k.py'

own_labels = 'masks'
data_root = '{{$DATA_ROOT:data/own}}'
pretrained = '{{$PRETRAINED:work_dirs/mixedae_vitb_folder/epoch_300.pth}}'
image_size = 512  # of the crops; a multiple of the patch size
classes = None
reduce_zero_label = False  # True: 0 is ignored, and 1 is the first class

train_dataloader = dict(
    batch_size=8,
    dataset=dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train')))
val_dataloader = dict(
    dataset=dict(
        type='BaseSegDataset',
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val')))
test_dataloader = val_dataloader

# The warm-up is a factor of the second one, which ends with the run.
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False),
]
train_cfg = dict(max_iters=20000, val_interval=2000)
default_hooks = dict(checkpoint=dict(interval=2000))
auto_scale_lr = dict(enable=True)
