# MixedAE with ViT-L/16.
_base_ = 'mixedae_vitb_300e.py'

model = dict(backbone=dict(arch='large'))
