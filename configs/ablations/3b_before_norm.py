# Table 3b, contrastive input before the final LayerNorm; global attention.
_base_ = '3b_after_norm.py'

model = dict(head=dict(contrast_input='before_norm'))
