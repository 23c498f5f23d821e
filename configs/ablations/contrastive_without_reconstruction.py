# Sec. 4.5: the contrastive loss alone, which the paper reports to fail.
_base_ = '3f_both.py'

model = dict(neck=None)
