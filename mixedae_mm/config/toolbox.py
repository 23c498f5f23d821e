"""Whether the toolbox of a config is here."""
from mmengine.config import Config

from .. import compat
from ..utils.errors import ConfigurationError


def check_toolbox(cfg: Config, config_path: str) -> None:
    """Refuse a config whose toolbox is not installed or cannot work."""
    scope = cfg.get('default_scope')
    if scope not in ('mmseg', 'mmdet'):
        return
    if not compat.is_available(scope):
        raise ConfigurationError(
            f'{config_path} is a config of {scope}, which is not installed: run '
            f'`{compat.install_command(scope)}`')
    if not compat.has_compiled_mmcv():
        raise ConfigurationError(
            f'{config_path} is a config of {scope}, which needs the compiled operators '
            'of mmcv, but the installed mmcv has none: build it with '
            '`pip install --no-build-isolation --no-cache-dir` against this PyTorch, '
            'or in a checkout of this project run `make test`')
