"""Build the model of a config without a Runner."""
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS, init_default_scope


def build_model(cfg: Config) -> BaseModel:
    """A config's model, with the ``data_preprocessor`` that may stand beside it."""
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    model = cfg.model.copy()
    if cfg.get('data_preprocessor'):  # which the Runner gives to the model
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    return MODELS.build(model)
