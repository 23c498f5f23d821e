"""Options and keys that nothing reads are refused, with the nearest that is read.

A config file may hold helper variables: ``train_pipeline`` is copied into
``train_dataloader.dataset.pipeline`` while the file is read. To set such a
variable afterwards, by ``--cfg-options``, changes nothing.
"""
import inspect
from difflib import SequenceMatcher
from typing import Any, Iterator, List, Sequence, Tuple

from mmengine.config import Config
from mmengine.runner import FlexibleRunner, Runner

from ..utils.errors import ConfigurationError, nearest
from ..utils.messages import listed
from .tree import resolve, runner_of, walk

# Top-level keys: what the two runners take as arguments, what they look up in
# the config besides, and what mmengine's and the toolboxes' commands read.
READ = (set(inspect.signature(Runner.__init__).parameters)
        | set(inspect.signature(FlexibleRunner.__init__).parameters)
        | {'activation_checkpointing', 'compile', 'custom_imports',
           'efficient_conv_bn_eval', 'find_unused_parameters', 'input_channels',
           'model_wrapper_cfg', 'runner_type', 'sync_bn', 'tta_model',
           'tta_pipeline'}) - {'self', 'cfg'}

# Dictionaries that are read key by key, so that another key is ignored in
# silence. Others become arguments of a function, which refuses it.
READ_KEY_BY_KEY = {
    'auto_scale_lr': ('enable', 'base_batch_size', 'accumulation_counted'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'env_cfg.mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'optim_wrapper.clip_grad': ('type', 'max_norm', 'norm_type', 'clip_value',
                                'error_if_nonfinite', 'foreach'),
    'optim_wrapper.paramwise_cfg': (
        'custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult',
        'dwconv_decay_mult', 'flat_decay_mult', 'dcn_offset_lr_mult',
        'bypass_duplicate', 'force_default_settings', 'layer_decay_rate',
        'num_layers', 'decay_rate', 'decay_type'),
}
SPECIAL = ('_delete_', '_scope_')


def check_keys(cfg: Config) -> None:
    """Refuse a misspelt key of a config file.

    At the top level, where helper variables of any name are allowed, a key is
    misspelt if it is very like one that is read, and its value does not occur
    in what is read.

    Raises:
        ConfigurationError: Naming the key and the one that is read.
    """
    for name, value in cfg.items():
        if name in READ or _has_own_runner(cfg):
            continue
        # 0.88 lie between test_pipeline, a helper, and tta_pipeline.
        close = nearest(name, READ, cutoff=0.881)
        if close and not _places(cfg, value):
            raise ConfigurationError(
                f'{cfg.filename} sets {name}, which nothing reads: did you mean '
                f'{close}?')
    for path, known in READ_KEY_BY_KEY.items():
        node = resolve(cfg, path.split('.'))
        for name in node if isinstance(node, dict) else ():
            close = nearest(name, known, cutoff=0.75)
            if name not in known and close:
                raise ConfigurationError(
                    f'{cfg.filename} sets {path}.{name}, which nothing reads: did '
                    f'you mean {path}.{close}?')


def check_options(cfg: Config, options: dict) -> None:
    """Refuse an option of ``--cfg-options`` that nothing reads.

    Args:
        cfg (Config): As read from its file, before the options are merged.
        options (dict): Key with dots -> value.

    Raises:
        ConfigurationError: For a helper variable, a misspelt key, a position that a
            list does not have, and text where the config has a number or True or
            False. The sentence names what is read instead.
    """
    for option, value in options.items():
        keys = option.split('.')
        if keys[0] not in READ and not _has_own_runner(cfg):
            raise ConfigurationError(
                f'--cfg-options {option} changes nothing, because nothing reads '
                f'{keys[0]} after the config file{_instead(cfg, keys)}')
        if option == 'launcher':
            raise ConfigurationError(
                '--cfg-options launcher changes nothing, because the command has an '
                f'option for it: give --launcher {value} instead.')
        model = cfg.get('model')
        if keys[0] == 'data_preprocessor' and 'data_preprocessor' in (
                model if isinstance(model, dict) else ()):
            raise ConfigurationError(
                f'--cfg-options {option} changes nothing, because the model has its '
                f'own data_preprocessor: set model.{option} instead.')
        _check_path(cfg, option, keys, options)
        _check_kind(option, resolve(cfg, keys), value)


def _check_kind(option: str, present: Any, value: Any) -> None:
    """Refuse text in the place of a number or of True and False."""
    if not isinstance(value, str) or value in ('auto', 'dynamic'):
        return
    if isinstance(present, bool) and value.lower() in (
            'yes', 'no', 'on', 'off', 'y', 'n', 't', 'f'):
        raise ConfigurationError(
            f'--cfg-options {option} is {value!r}, but must be True or False.')
    if isinstance(present, (int, float)) and not isinstance(present, bool):
        raise ConfigurationError(
            f'--cfg-options {option} is {value!r}, but must be a number, such as the '
            f'{present} of the config.')


def _check_path(cfg: Config, option: str, keys: Sequence[str], options: dict) -> None:
    """Refuse a key below the top level that has no place there, or that is not read.

    The latter only if it is very like one that is.
    """
    for depth, key in enumerate(keys[1:], 1):
        path, node = '.'.join(keys[:depth]), resolve(cfg, keys[:depth])
        why = ''
        if isinstance(node, (list, tuple)) and not node:
            why = f'{path} is empty; write the whole list in a config.'
        elif isinstance(node, (list, tuple)) and not (
                key.isdecimal() and int(key) < len(node)):
            why = (f'{path} is a list of {len(node)}, so that {key} must be a position '
                   f'from 0 to {len(node) - 1}.')
        elif not isinstance(node, (dict, Config, list, tuple)) and (
                f'{path}._delete_' not in options) and (path, node) in walk(cfg):
            why = (f'{path} is {node!r} in {cfg.filename}; ' + (
                'write the whole list in a config.' if keys[depth - 1].isdecimal() else
                f'give {path}._delete_=True as well, which puts the given keys in its '
                'place.'))
        if why:
            raise ConfigurationError(
                f'--cfg-options {option} is not possible: {why}')
        siblings = list(node) if isinstance(node, (dict, Config)) else []
        known = READ_KEY_BY_KEY.get(path, ())
        # The names in custom_keys are anything that parameters contain.
        if key in (*siblings, *known, *SPECIAL) or keys[depth - 1] == 'custom_keys':
            continue
        if 'type' in siblings:
            # A class may have arguments like each other, such as pos_iou_thr and
            # neg_iou_thr, and refuses itself what it does not know.
            siblings = []
        close = nearest(key, known or siblings, 0.6 if known else 0.85)
        if known or close:
            hint = '.'.join([path, close, *keys[depth + 1:]])
            raise ConfigurationError(
                f'--cfg-options {option} changes nothing, because nothing reads '
                f'{key} in {path}: ' + (
                    f'did you mean {hint}?' if close else
                    f'there are {", ".join(known)}.'))


def _instead(cfg: Config, keys: Sequence[str]) -> str:
    """What to set in place of a key whose first part nothing reads."""
    for depth in range(1, len(keys) + 1):
        value = resolve(cfg, keys[:depth])
        if value is None:
            break
        places = _places(cfg, value)
        if not isinstance(value, (str, dict, list, tuple)) or len(value) < 2:
            # A number may be equal by chance: the names must be alike, too.
            places = [place for place in places if SequenceMatcher(
                None, keys[depth - 1], place.rpartition('.')[2]).ratio() > 0.6]
        if places:
            found = ['.'.join([place, *keys[depth:]]) for place in places]
            return f': set {listed(found, 4)} instead.'
    loader, _, variable = keys[0].rpartition('_')
    if variable == 'pipeline' and loader in ('train', 'val', 'test'):
        pipeline = f'{loader}_dataloader.dataset.pipeline'
        if resolve(cfg, pipeline.split('.')) is not None:
            return f': did you mean {".".join([pipeline, *keys[1:]])}?'
    close = nearest(keys[0], READ, cutoff=0.75)
    if close:
        return f': did you mean {".".join([close, *keys[1:]])}?'
    places = [place for place, _ in _read(cfg)]
    same = ['.'.join([place, *keys[1:]]) for place in places
            if place.rpartition('.')[2] == keys[0]]
    same = same or [place for place in places if place.rpartition('.')[2] == keys[-1]]
    if same:
        return f': did you mean {listed(same, 4)}?'
    return f'; what is read are {", ".join(key for key in cfg.keys() if key in READ)}.'


def _places(cfg: Config, value: Any) -> List[str]:
    """Keys with dots, in what is read, that hold an equal value."""
    return [path for path, node in _read(cfg)
            if type(node) is type(value) and node == value]


def _read(cfg: Config) -> Iterator[Tuple[str, Any]]:
    """All that is read, with keys with dots."""
    return walk({key: value for key, value in cfg.items() if key in READ})


def _has_own_runner(cfg: Config) -> bool:
    """Whether a runner of the user's own may read any key."""
    return runner_of(cfg) not in ('Runner', 'FlexibleRunner')
