# MixedAE with ViT-L/16, sharded by FSDP.
_base_ = ['mixedae_vitl_300e.py', '_base_/fsdp.py']
