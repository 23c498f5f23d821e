# Naive mixing that tells the encoder which patches come from one image.
_base_ = 'both.py'

model = dict(
    backbone=dict(homologous_attention=False), head=dict(contrast_loss=None))
