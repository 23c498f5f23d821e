# Table 3d, K = 1.0 L (no sampling); every layer homologous.
_base_ = '3d_topk_025.py'

model = dict(backbone=dict(k_ratio=1.0))
