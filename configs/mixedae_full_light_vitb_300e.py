# MixedAE-Full with the light decoder, at BEiT's cost: Table 1.
_base_ = 'mixedae_full_vitb_300e.py'

model = dict(
    neck=dict(decoder_embed_dim=256, decoder_depth=2, decoder_num_heads=8))
