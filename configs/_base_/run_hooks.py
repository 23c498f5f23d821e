# For every run, pre-training and transfer: resume bit for bit, save a checkpoint
# on SIGTERM, make no update from a loss or gradient that is not finite. They need
# the SafeCheckpointHook.
run_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='PreemptionHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='ThroughputHook'),
]
