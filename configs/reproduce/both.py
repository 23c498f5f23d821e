# MixedAE as the demo trains it, on images with one object in their middle: the
# reference of `make reproduce`. The others differ from it in what they test.
_base_ = '../demo/mixedae_vit-tiny_demo.py'

train_dataloader = dict(
    dataset=dict(data_root='{{$DATA_ROOT:work_dirs/reproduce/data/objects/train}}'))
custom_hooks = _base_.run_hooks + [
    dict(type='TopKAccuracyHook', interval=100, num_images=256),
]
