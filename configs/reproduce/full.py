# Full mode (Fig. 4): four mixed samples per group instead of one.
_base_ = 'both.py'

model = dict(data_preprocessor=dict(mode='full'))
