#!/usr/bin/env python
"""Print mean and standard deviation of every channel of a folder of images."""
import argparse
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # of a checkout

from mixedae_mm.datasets.channels import decode_channels, extensions_of
from mixedae_mm.datasets.folder_index import index_folder
from mixedae_mm.datasets.reading import read_file
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import output_file, positive_int
from mixedae_mm.utils.progress import with_progress


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Print mean and standard deviation of every channel of the images '
        'below a folder, as lines for the data preprocessor of a config.')
    parser.add_argument('folder', metavar='FOLDER', help='images, at any depth')
    parser.add_argument('--channels', type=positive_int, required=True,
                        help='how many each image has')
    parser.add_argument('--out', type=output_file('.py'),
                        help='also write the lines to this file, *.py, which '
                        'a config can inherit')
    return parser.parse_args()


def run(args: argparse.Namespace) -> None:
    folder = Path(args.folder).expanduser()
    paths = list(index_folder(str(folder), extensions_of(args.channels)).paths())
    pixels, mean = 0, torch.zeros(args.channels, dtype=torch.float64)
    squares = torch.zeros_like(mean)  # sum of squared distances to the mean
    low, high = float('inf'), float('-inf')
    for path in with_progress(paths, 'reading', len(paths)):
        image = decode_channels(read_file(str(folder / path)), args.channels, path)
        values = image.double().flatten(1)  # (C, H * W)
        # Chan et al.: the parts' means and squares combine without cancellation.
        count, own = values.size(1), values.mean(1)
        distance, pixels = own - mean, pixels + count
        mean += distance * count / pixels
        squares += ((values - own[:, None])**2).sum(1)
        squares += distance**2 * count * (pixels - count) / pixels
        low, high = min(low, values.min().item()), max(high, values.max().item())
    std = (squares / pixels).sqrt()
    lines = [f'# {len(paths)} images, values from {low:.6g} to {high:.6g}',
             f'channels = {args.channels}']
    for name, numbers in (('mean', mean), ('std', std)):
        text = ', '.join(f'{number:.6g}' for number in numbers.tolist())
        lines.append(f'{name} = [{text}]')
    print('\n'.join(lines))
    if args.out:
        args.out.write_text('\n'.join(lines) + '\n')


if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
