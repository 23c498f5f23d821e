# CIFAR-10; accuracy.
_base_ = ['../../_base_/small_set.py', '../../_base_/transfer.py']

data_preprocessor = dict(to_rgb=False)  # its files are RGB
model = dict(head=dict(num_classes=10))

# All images come in one file.
train_pipeline = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        backend='pillow',
        interpolation='bicubic'),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(type='PackInputs'),
]
test_pipeline = [
    dict(
        type='Resize', scale=224, backend='pillow', interpolation='bicubic'),
    dict(type='PackInputs'),
]

data_root = '{{$DATA_ROOT:data/cifar10}}'
train_dataloader = dict(
    dataset=dict(
        type='CIFAR10',
        data_root=data_root,
        split='train',
        download=False,
        pipeline=train_pipeline))
val_dataloader = dict(
    dataset=dict(
        type='CIFAR10',
        data_root=data_root,
        split='test',
        download=False,
        pipeline=test_pipeline))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator

sweep = dict(hold_out=5)  # a fifth of the training images validates
