# Table 3f, the contrastive loss with global attention.
_base_ = 'both.py'

model = dict(backbone=dict(homologous_attention=False))
