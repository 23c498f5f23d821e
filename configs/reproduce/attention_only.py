# Table 3f, homologous attention without the contrastive loss.
_base_ = 'both.py'

model = dict(head=dict(contrast_loss=None))
