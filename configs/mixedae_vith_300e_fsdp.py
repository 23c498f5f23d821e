# MixedAE with ViT-H/14, sharded by FSDP. The paper has no ViT-H; patches of 14
# and the decoder are MAE's.
_base_ = ['mixedae_vitb_300e.py', '_base_/fsdp.py']

model = dict(backbone=dict(arch='vit-h', patch_size=14, with_cp=True))
