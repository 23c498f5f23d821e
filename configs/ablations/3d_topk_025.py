# Table 3d, K = 0.25 L; every layer homologous.
_base_ = '3f_both.py'

model = dict(backbone=dict(num_global_layers=0, k_ratio=0.25))
