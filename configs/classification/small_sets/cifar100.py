# CIFAR-100; accuracy.
_base_ = 'cifar10.py'

model = dict(head=dict(num_classes=100))

data_root = '{{$DATA_ROOT:data/cifar100}}'
train_dataloader = dict(dataset=dict(type='CIFAR100', data_root=data_root))
val_dataloader = dict(dataset=dict(type='CIFAR100', data_root=data_root))
test_dataloader = val_dataloader
