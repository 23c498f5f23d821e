# MAE on the batches of naive_mixing_views.py.
_base_ = 'mae.py'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='RepeatAugSampler', num_repeats=4))
