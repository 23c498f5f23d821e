# Table 3e, no layer global.
_base_ = '3e_global_first.py'

model = dict(backbone=dict(num_global_layers=0))
