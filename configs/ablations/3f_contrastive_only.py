# Table 3f, the contrastive loss with global attention.
_base_ = '3f_both.py'

model = dict(backbone=dict(homologous_attention=False))
