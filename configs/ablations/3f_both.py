# Table 3f, both components: MixedAE's default at the ablations' learning rate.
_base_ = '../mixedae_vitb_300e.py'

optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 4096 / 256))
