# Table 3b, contrastive input after the final LayerNorm; global attention.
_base_ = '3f_contrastive_only.py'
