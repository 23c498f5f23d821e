# Table 3a, r = 0.25, mixing only.
_base_ = '../naive_mixing_vitb_300e.py'
