# A short fine-tuning with few labels: what the pre-training is worth when there
# is little else. PRETRAINED names the checkpoint to start from.
_base_ = '../demo/transfer/finetune_vit-tiny_objects.py'

data_preprocessor = dict(num_classes=8)
model = dict(
    head=dict(num_classes=8),
    train_cfg=dict(
        _delete_=True,
        augments=[
            dict(type='Mixup', alpha=0.8),
            dict(type='CutMix', alpha=1.0)
        ]))

metainfo = dict(classes=[
    f'{texture}_{shape}' for texture in ('brick', 'gravel')
    for shape in ('cross', 'disc', 'star', 'triangle')
])
train_dataloader = dict(dataset=dict(metainfo=metainfo))
val_dataloader = dict(dataset=dict(metainfo=metainfo))
test_dataloader = val_dataloader

optim_wrapper = dict(optimizer=dict(lr=2e-3))
