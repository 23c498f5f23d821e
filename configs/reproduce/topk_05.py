# Table 3d, K = 0.5 L; the first layer stays global, as in both.py.
_base_ = 'both.py'

model = dict(backbone=dict(k_ratio=0.5))
