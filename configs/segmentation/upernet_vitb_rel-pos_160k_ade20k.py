# With a relative position bias from zero, as BEiT and MAE fine-tune on ADE20K.
_base_ = 'upernet_vitb_160k_ade20k.py'

model = dict(backbone=dict(relative_position_bias=True))
