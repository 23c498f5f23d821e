# MAE with the same encoder, decoder, images and steps.
_base_ = '../demo/transfer/mae_vit-tiny_demo.py'

train_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:work_dirs/reproduce/data/objects/train}}'))
custom_hooks = _base_.run_hooks + [
    dict(type='TopKAccuracyHook', interval=100, num_images=256),
]
