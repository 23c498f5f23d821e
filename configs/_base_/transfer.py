# What every transfer run has, in each of the three toolboxes.
_base_ = 'run_hooks.py'

custom_imports = dict(imports=['mixedae_mm'], allow_failed_imports=False)

custom_hooks = _base_.run_hooks + [
    dict(type='DataCheckHook'),  # refuse wrong data before the first step
]
