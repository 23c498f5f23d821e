"""The components of MixedAE, which configs name; one per file.

Each raises a ConfigurationError when it is built with a value that an argument does
not allow.
"""
from .checkpoint_loading import CheckedPretrainedInit
from .homologous_contrastive_loss import HomologousContrastiveLoss
from .mixedae import MixedAE
from .mixedae_data_preprocessor import MixedAEDataPreprocessor
from .mixedae_decoder import MixedAEDecoder
from .mixedae_head import MixedAEPretrainHead
from .mixedae_vit import EncodedMix, MixedAEViT
from .vit_feature_pyramid import ViTFeaturePyramid

__all__ = [
    'CheckedPretrainedInit', 'EncodedMix', 'HomologousContrastiveLoss', 'MixedAE',
    'MixedAEDataPreprocessor', 'MixedAEDecoder', 'MixedAEPretrainHead',
    'MixedAEViT', 'ViTFeaturePyramid'
]
