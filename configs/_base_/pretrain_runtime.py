_base_ = 'run_hooks.py'

default_scope = 'mmpretrain'
custom_imports = dict(imports=['mixedae_mm'], allow_failed_imports=False)

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook', interval=100),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='SafeCheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    visualization=dict(type='VisualizationHook', enable=False))

# For runs that mix: TopK accuracy (Fig. 6) and pictures of mixing, while training.
# GPUs of compute capability 8.0 or newer run the losses compiled.
custom_hooks = _base_.run_hooks + [
    dict(type='TopKAccuracyHook', interval=1000),
    dict(type='MixingVisualizationHook', interval=5000),
    dict(type='CompileHook'),
]

env_cfg = dict(
    cudnn_benchmark=True,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'))

vis_backends = [dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]
visualizer = dict(type='UniversalVisualizer', vis_backends=vis_backends)

log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=0, diff_rank_seed=True)
