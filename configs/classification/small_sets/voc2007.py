# Pascal VOC 2007: 20 classes, several per image; 11-point mAP.
_base_ = ['../../_base_/small_set.py', '../../_base_/transfer.py']

data_preprocessor = dict(num_classes=20, to_onehot=True)
model = dict(
    head=dict(
        type='MultiLabelLinearClsHead',
        num_classes=20,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True)))

data_root = '{{$DATA_ROOT:data/VOC2007}}'
train_dataloader = dict(
    dataset=dict(
        type='VOC',
        data_root=data_root,
        split='trainval'))
val_dataloader = dict(
    dataset=dict(
        type='VOC',
        data_root=data_root,
        split='test'))
test_dataloader = val_dataloader
val_evaluator = dict(type='ElevenPointMAP')
test_evaluator = val_evaluator

sweep = dict(train_split='train', val_split='val')
