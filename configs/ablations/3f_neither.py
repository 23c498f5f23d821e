# Table 3f, neither component: naive mixing.
_base_ = '../naive_mixing_vitb_300e.py'
