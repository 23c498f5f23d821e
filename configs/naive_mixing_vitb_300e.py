# The simple baseline of Sec. 3.1: mixing without homologous recognition.
_base_ = 'mixedae_vitb_300e.py'

model = dict(
    backbone=dict(homologous_attention=False, segment_embedding=False),
    head=dict(contrast_loss=None))

optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 4096 / 256))
