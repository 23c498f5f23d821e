# MAE's AdamW: no weight decay on biases, norms, tokens and embeddings.
optim_wrapper = dict(
    optimizer=dict(
        type='AdamW', betas=(0.9, 0.95), weight_decay=0.05, fused=True),
    constructor='MergedOptimWrapperConstructor',
    paramwise_cfg=dict(
        custom_keys={
            'ln': dict(decay_mult=0.0),
            'bias': dict(decay_mult=0.0),
            'pos_embed': dict(decay_mult=0.0),
            'segment_embed': dict(decay_mult=0.0),
            'mask_token': dict(decay_mult=0.0),
            'cls_token': dict(decay_mult=0.0),
        }))
