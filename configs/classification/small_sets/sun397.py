# SUN397: the first of its ten splits; accuracy.
_base_ = ['../../_base_/small_set.py', '../../_base_/transfer.py']

model = dict(head=dict(num_classes=397))

data_root = '{{$DATA_ROOT:data/SUN397}}'
train_dataloader = dict(
    dataset=dict(
        type='SUN397',
        data_root=data_root,
        split='train'))
val_dataloader = dict(
    dataset=dict(
        type='SUN397',
        data_root=data_root,
        split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator

sweep = dict(hold_out=5)  # a fifth of the training images validates
