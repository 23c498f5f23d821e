# Table 3a, r = 0.5, mixing only.
_base_ = '3a_ratio_025.py'

model = dict(data_preprocessor=dict(mix_ratio=0.5))
