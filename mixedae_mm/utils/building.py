"""Build the model of a config without a Runner."""
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope


def build_model(cfg: Config) -> BaseModel:
    """A config's model, with the preprocessor that may stand beside it.

    Classifiers and most configs of mmpretrain have their mean and standard deviation
    in ``data_preprocessor`` at the top level, which the Runner gives to the model.

    Args:
        cfg (Config): Of mmpretrain, mmseg or mmdet.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = cfg.model.copy()
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)
