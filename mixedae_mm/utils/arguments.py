"""Types for argparse, which refuses other values while it parses."""
import argparse
from typing import Callable

import torch


def integer_from(smallest: int) -> Callable[[str], int]:
    """A ``type`` for argparse: whole numbers of at least ``smallest``."""

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = smallest - 1
        if number < smallest:
            raise argparse.ArgumentTypeError(
                f'{text!r} must be a whole number of at least {smallest}')
        return number

    return parse


positive_int = integer_from(1)
non_negative_int = integer_from(0)


def positive_float(text: str) -> float:
    """A ``type`` for argparse: finite numbers above 0."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text!r} must be a number above 0')
    return number


def device_name(text: str) -> str:
    """A ``type`` for argparse: a device of PyTorch that is there."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:  # the latter without CUDA
        reason = str(error).partition('\n')[0]
        raise argparse.ArgumentTypeError(
            f'{text!r} must be a device that is there, such as cpu or cuda: {reason}'
        ) from None
    return text


def add_shown_channels(parser: argparse.ArgumentParser) -> None:
    """The option of commands that draw images with more channels than RGB."""
    parser.add_argument(
        '--show-channels', nargs=3, type=non_negative_int, metavar=('R', 'G', 'B'),
        help='of images with other channels than RGB: which to draw as red, green and '
        'blue, counted from 0 (default: the first three; the first in grey of two)')
