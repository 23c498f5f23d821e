# MAE's schedule (Sec. 4.1): 4096 images per step in all.
_base_ = '../optimizers/mae_adamw.py'

optim_wrapper = dict(
    type='AmpOptimWrapper',
    loss_scale='dynamic',
    accumulative_counts=1,  # k: k times the batch with the same memory
    optimizer=dict(lr=7.5e-5 * 4096 / 256))

param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=0.0001,
        by_epoch=True,
        begin=0,
        end=40,
        convert_to_iter_based=True),
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=40,
        end=300,
        convert_to_iter_based=True),
]

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)

# `--auto-scale-lr` scales the learning rate to the batch in use.
auto_scale_lr = dict(base_batch_size=4096, enable=False)
