# Table 3c, every positive on its own; global attention.
_base_ = '3f_contrastive_only.py'
