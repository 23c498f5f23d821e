"""Configs of ``own_labels/`` for images with other channels than RGB."""
from math import inf
from typing import Optional, Sequence

from mmengine.config import Config, ConfigDict

from ..datasets.channels import extensions_of
from ..utils.checks import check_count, check_number
from ..utils.errors import ConfigurationError
from .tree import type_name, walk


def take_channels(cfg: Config, theirs: dict, channels: Optional[int],
                  mean: Optional[Sequence[float]], std: Optional[Sequence[float]]
                  ) -> None:
    """Make a config of RGB images one of other channels, in place.

    Steps that need 8-bit RGB, such as ``RandAugment``, are left out.

    Args:
        cfg (Config): Of classification, segmentation or detection.
        theirs (dict): Config of the pre-training, or empty. What is not given is
            taken from it.
        channels (int, optional): Of the images.
        mean (sequence[float], optional): Of each channel, in the units of the files.
        std (sequence[float], optional): Likewise.

    Raises:
        ConfigurationError: If the numbers of channels, means and standard deviations
            differ, or are missing.
    """
    if channels is not None:
        check_count(f'channels in {cfg.filename}', channels)
    if (mean is None) != (std is None):
        raise ConfigurationError(
            f'{cfg.filename} has one of mean and std, but must have both or neither.')
    model, loaded = theirs.get('model') or {}, loaded_channels(
        theirs.get('train_dataloader'))
    backbone, found = model.get('backbone'), loaded
    if isinstance(backbone, dict) and found is None:
        found = backbone.get('in_channels', 3)
    if channels is None and (found != 3 or loaded):
        channels = found
    is_classifier = 'data_preprocessor' in cfg
    preprocessor = (cfg if is_classifier else cfg.model).data_preprocessor
    count = channels or 3
    for key, given in (('mean', mean), ('std', std)):
        if given is None and found == count:
            given = (model.get('data_preprocessor')
                     or theirs.get('data_preprocessor') or {}).get(key)
            if isinstance(given, (list, tuple)) and len(given) == 1 and isinstance(
                    given[0], (list, tuple)):
                given = given[0]  # as below, of a fine-tuned model
        if given is None and count == 3:
            continue  # ImageNet's, as in the recipe
        if not isinstance(given, (list, tuple)) or len(given) not in (1, count):
            raise ConfigurationError(
                f'{key} in {cfg.filename} is {given}, but must be {count} numbers, one '
                'per channel; python -m mixedae_mm channel_statistics FOLDER '
                f'--channels {count} prints them.')
        for value in given:
            check_number(f'a number of {key} in {cfg.filename}', value,
                         lambda number: (key == 'mean' or number > 0)
                         and abs(number) < inf,
                         'be finite' + (' and above 0' if key == 'std' else ''))
        # mmengine counts the numbers, one or three; a list in a list is one.
        flat = len(given) in (1, 3) or is_classifier
        preprocessor[key] = list(given) if flat else [list(given)]
    if channels is None:
        return
    cfg.model.backbone.in_channels = channels
    preprocessor['to_rgb' if is_classifier else 'bgr_to_rgb'] = False
    if is_classifier:
        _set_classification(cfg, channels)
        return
    for _, node in walk(cfg):
        if not isinstance(node, list) or not all(isinstance(one, dict) for one in node):
            continue
        node[:] = [ConfigDict(type='LoadChannels', channels=channels, as_array=True)
                   if type_name(one) == 'LoadImageFromFile' else one
                   for one in node if type_name(one) != 'PhotoMetricDistortion']


def loaded_channels(loader: Optional[dict]) -> Optional[int]:
    """What ``LoadChannels`` of a data loader reads; None if it does not load so."""
    return next((node.get('channels') for _, node in walk(loader)
                 if isinstance(node, dict) and type_name(node) == 'LoadChannels'), None)


def _set_classification(cfg: Config, channels: int) -> None:
    """Crops as in pre-training; OpenCV's are not smoothed, Pillow's are of RGB."""
    size = cfg.model.backbone.img_size
    train = [dict(type='TensorRandomResizedCrop', size=size, scale=(0.08, 1.0)),
             dict(type='torchvision/RandomHorizontalFlip', p=0.5)]
    test = [dict(type='EvaluationCrop', size=size)]
    for name, steps in (('train', train), ('val', test), ('test', test)):
        dataset = cfg[f'{name}_dataloader'].dataset
        dataset.extensions = extensions_of(channels)
        dataset.pipeline = list(map(ConfigDict, [
            dict(type='LoadChannels', channels=channels), *steps,
            dict(type='PackInputs')]))
