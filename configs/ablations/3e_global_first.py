# Table 3e, the first layer global: the default.
_base_ = '3f_both.py'
