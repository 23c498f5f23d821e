# Table 3e, the first three layers global.
_base_ = '3e_global_first.py'

model = dict(backbone=dict(num_global_layers=3))
