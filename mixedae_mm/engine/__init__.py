"""Hooks and optimizers: what happens around the model while it trains."""
from .resume.checkpoint_files import find_resumable_checkpoint
from .hooks.checked_loading_hook import CheckedLoadingHook
from .hooks.compile_hook import CompileHook
from .hooks.data_check_hook import DataCheckHook
from .resume.exact_resume_hook import ExactResumeHook
from .strategies.fsdp_strategy import ViTFSDPStrategy
from .hooks.knn_evaluation_hook import KNNEvaluationHook
from .optimizers import (LayerDecayOptimWrapperConstructor,
                         MergedOptimWrapperConstructor)
from .hooks.mixing_visualization_hook import MixingVisualizationHook
from .hooks.nonfinite_dump import replay_nonfinite_loss
from .hooks.nonfinite_loss_hook import NonFiniteLossError, NonFiniteLossHook
from .hooks.preemption_hook import PreemptionHook
from .resume.safe_checkpoint_hook import SafeCheckpointHook
from .hooks.throughput_hook import ThroughputHook
from .hooks.topk_accuracy_hook import TopKAccuracyHook

__all__ = [
    'CheckedLoadingHook', 'CompileHook', 'DataCheckHook', 'ExactResumeHook',
    'KNNEvaluationHook', 'LayerDecayOptimWrapperConstructor',
    'MergedOptimWrapperConstructor', 'MixingVisualizationHook',
    'NonFiniteLossError', 'NonFiniteLossHook', 'PreemptionHook',
    'SafeCheckpointHook', 'ThroughputHook', 'TopKAccuracyHook',
    'ViTFSDPStrategy', 'find_resumable_checkpoint', 'replay_nonfinite_loss'
]
