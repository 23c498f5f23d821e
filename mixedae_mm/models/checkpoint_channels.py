"""Weights of a ViT for images with another number of channels, when asked for.

An image whose channels are all equal has the same features before and after: each
new channel gets the sum of the old weights, divided by the new number of channels, and
what a decoder predicts of a channel is the mean of what it predicted of all.
"""
from typing import Dict, List

from torch import Tensor

from .checkpoint_names import LANDMARKS

INPUT_CHANNELS = ('mean', )  # allowed values of the option
PREDICTIONS = ('decoder_pred.weight', 'decoder_pred.bias')


def with_channels(weights: Dict[str, Tensor], channels: int) -> List[str]:
    """Make weights those of a ViT, and of its decoder, for other channels, in place.

    Args:
        weights (dict[str, Tensor]): By mmpretrain's names, with any prefix.
        channels (int): Of the images.

    Returns:
        list[str]: What was changed, with both numbers.
    """
    found = [name for name in weights if name.endswith(LANDMARKS['mm'])]
    if len(found) != 1 or weights[found[0]].dim() != 4:
        return []
    projection = weights[found[0]]  # (D, C, P, P)
    before = projection.shape[1]
    if before == channels:
        return []
    weights[found[0]] = (projection.sum(1, keepdim=True) / channels).repeat(
        1, channels, 1, 1)
    changed = found
    pixels = before * projection.shape[2] * projection.shape[3]
    for name in [name for name in weights if name.endswith(PREDICTIONS)]:
        value = weights[name]
        if len(value) == pixels:  # (P * P * C, ...), the channels of a pixel together
            mean = value.unflatten(0, (-1, before)).mean(1)
            weights[name] = mean.repeat_interleave(channels, 0)
            changed.append(name)
    return [f'{name} {before} -> {channels} channels' for name in changed]
