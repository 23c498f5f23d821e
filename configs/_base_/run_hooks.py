# Every run, pre-training and transfer: bit-for-bit resume, a checkpoint on
# SIGTERM, no non-finite update. They ask for the SafeCheckpointHook.
run_hooks = [
    dict(type='ExactResumeHook'),
    dict(type='PreemptionHook'),
    dict(type='NonFiniteLossHook'),
    dict(type='ThroughputHook'),
]
