# DTD: 47 textures, the first of its ten splits; accuracy.
_base_ = ['../../_base_/small_set.py', '../../_base_/transfer.py']

model = dict(head=dict(num_classes=47))

data_root = '{{$DATA_ROOT:data/dtd}}'
train_dataloader = dict(
    dataset=dict(
        type='DTD',
        data_root=data_root,
        split='trainval'))
val_dataloader = dict(
    dataset=dict(
        type='DTD',
        data_root=data_root,
        split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='Accuracy', topk=1)
test_evaluator = val_evaluator

sweep = dict(train_split='train', val_split='val')
