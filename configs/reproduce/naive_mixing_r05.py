# Table 3a, two images in a mix.
_base_ = 'naive_mixing.py'

model = dict(data_preprocessor=dict(mix_ratio=0.5))
