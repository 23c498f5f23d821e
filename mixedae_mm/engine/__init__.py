"""What happens around the model while it trains: hooks, optimizers, strategies."""
from ..utils.checkpoint_files import find_resumable_checkpoint
from .hooks.checked_loading_hook import CheckedLoadingHook
from .hooks.compile_hook import CompileHook
from .hooks.data_check_hook import DataCheckHook
from .hooks.knn_evaluation_hook import KNNEvaluationHook
from .hooks.mixing_visualization_hook import MixingVisualizationHook
from .hooks.nonfinite_dump import replay_nonfinite_loss
from .hooks.nonfinite_loss_hook import NonFiniteLossError, NonFiniteLossHook
from .hooks.preemption_hook import PreemptionHook
from .hooks.throughput_hook import ThroughputHook
from .hooks.topk_accuracy_hook import TopKAccuracyHook
from .optimizers import LayerDecayOptimWrapperConstructor, MergedOptimWrapperConstructor
from .resume.exact_resume_hook import ExactResumeHook
from .resume.safe_checkpoint_hook import SafeCheckpointHook
from .strategies.fsdp_strategy import ViTFSDPStrategy

__all__ = [
    'CheckedLoadingHook', 'CompileHook', 'DataCheckHook', 'ExactResumeHook',
    'KNNEvaluationHook', 'LayerDecayOptimWrapperConstructor',
    'MergedOptimWrapperConstructor', 'MixingVisualizationHook',
    'NonFiniteLossError', 'NonFiniteLossHook', 'PreemptionHook',
    'SafeCheckpointHook', 'ThroughputHook', 'TopKAccuracyHook',
    'ViTFSDPStrategy', 'find_resumable_checkpoint', 'replay_nonfinite_loss'
]
