# What every transfer run has, whichever toolbox it belongs to.
custom_imports = dict(imports=['mixedae_mm'], allow_failed_imports=False)

custom_hooks = [
    dict(type='DataCheckHook'),  # before the first step, not in the third hour
]
