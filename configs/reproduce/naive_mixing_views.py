# Mixing alone, of four similar crops of one image: sources that have much in
# common.
_base_ = 'naive_mixing.py'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='RepeatAugSampler', num_repeats=4),
    dataset=dict(pipeline=[
        dict(type='LoadImageTensor'),
        dict(type='TensorRandomResizedCrop', size=64, scale=(0.8, 1.0)),
        dict(type='PackInputs', meta_keys=('img_path', 'ori_shape')),
    ]))
