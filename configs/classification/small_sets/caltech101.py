# Caltech-101: 102 folders, 30 training images each; mean per-class accuracy.
_base_ = ['../../_base_/small_set.py', '../../_base_/transfer.py']

model = dict(head=dict(num_classes=102))

data_root = '{{$DATA_ROOT:data/caltech-101}}'
train_dataloader = dict(
    dataset=dict(
        type='Caltech101',
        data_root=data_root,
        split='train'))
val_dataloader = dict(
    dataset=dict(
        type='Caltech101',
        data_root=data_root,
        split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='SingleLabelMetric', items=['recall'])
test_evaluator = val_evaluator

sweep = dict(hold_out=5)  # a fifth of the training images validates
