_base_ = 'pretrain_300e.py'

train_cfg = dict(max_epochs=1600)
param_scheduler = _base_.param_scheduler
param_scheduler[1].end = 1600
