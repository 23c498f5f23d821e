# Table 3c, the mean of the positives; global attention.
_base_ = '3c_positives_separate.py'

model = dict(head=dict(contrast_loss=dict(positives='mean')))
