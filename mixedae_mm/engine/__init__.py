"""Hooks and optimizers: what happens around the model while it trains."""
from .checkpoint_files import find_resumable_checkpoint
from .compile_hook import CompileHook
from .data_check_hook import DataCheckHook
from .exact_resume_hook import ExactResumeHook
from .fsdp_strategy import ViTFSDPStrategy
from .knn_evaluation_hook import KNNEvaluationHook
from .layer_decay_optim_constructor import LayerDecayOptimWrapperConstructor
from .mixing_visualization_hook import MixingVisualizationHook
from .nonfinite_dump import replay_nonfinite_loss
from .nonfinite_loss_hook import NonFiniteLossError, NonFiniteLossHook
from .preemption_hook import PreemptionHook
from .safe_checkpoint_hook import SafeCheckpointHook
from .throughput_hook import ThroughputHook
from .topk_accuracy_hook import TopKAccuracyHook

__all__ = [
    'CompileHook', 'DataCheckHook', 'ExactResumeHook', 'KNNEvaluationHook',
    'LayerDecayOptimWrapperConstructor', 'MixingVisualizationHook',
    'NonFiniteLossError', 'NonFiniteLossHook', 'PreemptionHook',
    'SafeCheckpointHook', 'ThroughputHook', 'TopKAccuracyHook',
    'ViTFSDPStrategy', 'find_resumable_checkpoint', 'replay_nonfinite_loss'
]
