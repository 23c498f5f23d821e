# What every transfer run has, whichever toolbox it belongs to.
_base_ = 'run_hooks.py'

custom_imports = dict(imports=['mixedae_mm'], allow_failed_imports=False)

custom_hooks = _base_.run_hooks + [
    dict(type='DataCheckHook'),  # before the first step, not in the third hour
]
