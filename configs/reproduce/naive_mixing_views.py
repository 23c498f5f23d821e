# Mixing alone, of four crops of one image: sources that know about each other.
_base_ = 'naive_mixing.py'

train_dataloader = dict(
    sampler=dict(_delete_=True, type='RepeatAugSampler', num_repeats=4))
