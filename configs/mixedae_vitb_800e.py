# MixedAE, compose mixing: Table 1.
_base_ = [
    '_base_/models/mixedae_vitb.py',
    '_base_/datasets/imagenet_pretrain.py',
    '_base_/schedules/pretrain_800e.py',
    '_base_/pretrain_runtime.py',
]
