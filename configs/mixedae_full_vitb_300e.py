# MixedAE-Full: Table 1. Four mixed samples per group, 1024 images per step.
_base_ = 'mixedae_vitb_300e.py'

model = dict(data_preprocessor=dict(mode='full'))

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=7.5e-5 * 1024 / 256))
auto_scale_lr = dict(base_batch_size=1024)
