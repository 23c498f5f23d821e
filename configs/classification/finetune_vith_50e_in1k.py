# ImageNet-1K, full fine-tuning of ViT-H/14: ViT-L's recipe with MAE's drop path for it.
# The paper reports ViT-B only.
_base_ = 'finetune_vitl_50e_in1k.py'

model = dict(
    backbone=dict(
        arch='vit-h',
        patch_size=14,
        drop_path_rate=0.3,
        init_cfg=dict(
            checkpoint='{{$PRETRAINED:work_dirs/mixedae_vith_300e_fsdp/epoch_300.pth}}'
        )),
    head=dict(in_channels=1280))
