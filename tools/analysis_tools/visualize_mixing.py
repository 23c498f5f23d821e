#!/usr/bin/env python
"""Mixing and reconstruction of images: masks, unmixed inputs, predictions."""
import argparse
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.folder_measures import (  # noqa: E402
    folder_mixing_panels)
from mixedae_mm.analysis.loading import (find_images,  # noqa: E402
                                         load_model)
from mixedae_mm.analysis.panels import draw_mixing_panel  # noqa: E402
from mixedae_mm.launch.entry import report_errors  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file of a MixedAE model')
    parser.add_argument('checkpoint', help='its weights')
    parser.add_argument(
        'images', nargs='+',
        help='images in the order they are mixed, or a folder from which some '
        'are drawn at random')
    parser.add_argument(
        '--num-panels', type=int, default=1,
        help='how many mixed samples of a folder to show (default: 1)')
    parser.add_argument(
        '--seed', type=int, default=0, help='of masks and choice of images')
    parser.add_argument(
        '--out', default='mixing.png',
        help='.png, .pdf or .svg; numbered if there are several')
    parser.add_argument('--device', help='default: a GPU if there is one')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    model = load_model(args.config, args.checkpoint, args.device)
    paths = args.images
    if len(paths) == 1:
        paths = find_images(paths[0], seed=args.seed)
    panels = list(
        islice(
            folder_mixing_panels(model, paths, args.seed), args.num_panels))
    out = Path(args.out)
    for number, panel in enumerate(panels):
        name = out
        if len(panels) > 1:
            name = out.with_stem(f'{out.stem}_{number}')
        draw_mixing_panel(panel).savefig(name, dpi=200)
        print(f'wrote {name}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_args()))
