"""Types for argparse, which refuses other values while it parses."""
import argparse
import os
from pathlib import Path
from typing import Any, Callable

import torch

from .errors import ConfigurationError
from .files import check_file

FIGURE_SUFFIXES = ('.png', '.jpg', '.jpeg', '.webp', '.pdf', '.svg')


def _number(kind: Callable[[str], Any], is_allowed: Callable[[Any], bool],
            allowed: str) -> Callable[[str], Any]:

    def parse(text: str) -> Any:
        try:
            number = kind(text)
        except ValueError:
            number = float('nan')
        if not is_allowed(number):
            raise argparse.ArgumentTypeError(f'{text!r} must be {allowed}')
        return number

    return parse


positive_int = _number(int, lambda n: n >= 1, 'a whole number of at least 1')
non_negative_int = _number(int, lambda n: n >= 0, 'a whole number of at least 0')
positive_float = _number(float, lambda n: 0 < n < float('inf'), 'a number above 0')


def path(text: str) -> Path:
    """A path. ``~`` is the home folder: a shell does not expand ``--out=~/a``."""
    return Path(os.path.expanduser(text))


def output_file(*suffixes: str) -> Callable[[str], Path]:
    """A file that can be written: its folder is there, its name ends in a suffix."""

    def parse(text: str) -> Path:
        try:
            return check_file(text, overwrite=True, suffixes=suffixes)
        except ConfigurationError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return parse


figure_file = output_file(*FIGURE_SUFFIXES)


def device_name(text: str) -> str:
    """A device of PyTorch that is there."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError) as error:  # the latter without CUDA
        reason = str(error).partition('\n')[0]
        raise argparse.ArgumentTypeError(
            f'{text!r} must be a device that is there, such as cpu or cuda: {reason}'
        ) from None
    return text


def add_shown_channels(parser: argparse.ArgumentParser) -> None:
    """Add the option of commands that draw images with more channels than RGB."""
    parser.add_argument(
        '--show-channels', nargs=3, type=non_negative_int, metavar=('R', 'G', 'B'),
        help='of images with other channels than RGB: which to draw as red, green and '
        'blue, counted from 0 (default: the first three; the first in grey of two)')
