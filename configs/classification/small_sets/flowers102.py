# Flowers-102; mean per-class accuracy.
_base_ = ['../../_base_/small_set.py', '../../_base_/transfer.py']

model = dict(head=dict(num_classes=102))

data_root = '{{$DATA_ROOT:data/Flowers102}}'
train_dataloader = dict(
    dataset=dict(
        type='Flowers102',
        data_root=data_root,
        split='trainval'))
val_dataloader = dict(
    dataset=dict(
        type='Flowers102',
        data_root=data_root,
        split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='SingleLabelMetric', items=['recall'])
test_evaluator = val_evaluator

sweep = dict(train_split='train', val_split='val')
