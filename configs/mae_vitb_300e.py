# MAE, the baseline of Table 1, with its own learning rate.
_base_ = [
    '_base_/models/mae_vitb.py',
    '_base_/datasets/imagenet_pretrain.py',
    '_base_/schedules/pretrain_300e.py',
    '_base_/pretrain_runtime.py',
]

optim_wrapper = dict(optimizer=dict(lr=1.5e-4 * 4096 / 256))
custom_hooks = _base_.run_hooks  # nothing is mixed here
