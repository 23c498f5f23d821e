# Table 3d, K = 0.125 L; every layer homologous.
_base_ = '3d_topk_025.py'

model = dict(backbone=dict(k_ratio=0.125))
