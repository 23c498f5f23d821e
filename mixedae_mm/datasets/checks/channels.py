"""Images have the channels, and their values the range, that a model is built for."""
from typing import Any, Callable, Optional

import numpy as np
import torch
from torch import nn

from ...utils.errors import ConfigurationError
from ...utils.preprocessing import warn_of_range
from ...utils.random import own_random_numbers


def check_channels(sample: dict, model: nn.Module, name: str, warn: bool,
                   pack: Callable[[], dict]) -> bool:
    """Refuse an image with other channels than a ViT takes; warn of its values.

    Args:
        sample (dict): Of a pipeline, with its image loaded, or without.
        model (nn.Module): Whatever is trained.
        name (str): What the config calls the data set.
        warn (bool): Whether to warn of values out of the range of mean and std, too;
            returned is whether that was done.
        pack (callable): What the whole pipeline makes of the sample. Its steps may
            change the number of channels: make grey, or put two images together.
    """
    image: Any = sample.get('img')
    embedding = getattr(getattr(model, 'backbone', None), 'patch_embed', None)
    wanted = getattr(getattr(embedding, 'projection', None), 'in_channels', None)
    if wanted is None or not isinstance(image, (np.ndarray, torch.Tensor)):
        return False
    if isinstance(image, np.ndarray):  # (H, W, C), or (H, W) of grey images
        image = torch.from_numpy(np.atleast_3d(image).astype(np.float32))
        image = image.permute(2, 0, 1)
    if len(image) != wanted:
        if _packed_channels(pack) == wanted:
            return False
        raise ConfigurationError(
            f'{name} loads {sample.get("img_path")} with {len(image)} channels, but '
            f'the backbone takes {wanted}: LoadChannels(channels={wanted}) reads so '
            'many, and in_channels of the backbone says how many it takes.')
    mean, std = (getattr(model.data_preprocessor, key, None) for key in ('mean', 'std'))
    if mean is None or std is None:
        return False
    for key, values in (('mean', mean), ('std', std)):
        if len(values) not in (1, wanted):
            raise ConfigurationError(
                f'{key} of the data preprocessor has {len(values)} numbers, but the '
                f'images of {name} have {wanted} channels: give one per channel.')
    return warn and warn_of_range(image, mean, std, f'{sample.get("img_path")} has')


def _packed_channels(pack: Callable[[], dict]) -> Optional[int]:
    """How many channels a model is given; None if that cannot be told."""
    try:
        with own_random_numbers(0):
            inputs = pack()['inputs']
    except Exception:  # whatever steps make of other channels
        return None
    image = inputs[0] if isinstance(inputs, (list, tuple)) else inputs  # of views
    return len(image) if isinstance(image, torch.Tensor) else None
