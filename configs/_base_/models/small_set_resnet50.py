# The ResNet-50 of Table 2's self-supervised ResNets, in place of the ViT of
# small_set.py: tools/transfer/transfer_eleven.py --backbone resnet50.
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        depth=50,
        init_cfg=dict(type='Pretrained', complete=True, checkpoint='')),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=2048))
