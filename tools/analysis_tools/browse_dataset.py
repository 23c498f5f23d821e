#!/usr/bin/env python
"""Look at what a config's data are when the model gets them: augmented, mixed.

Of configs of mmseg and mmdet it draws the masks and boxes, too.
"""
import argparse
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.browsing import PHASES, browse
from mixedae_mm.launch.entry import add_config_options, load_config, report_errors
from mixedae_mm.utils.arguments import add_shown_channels, path, positive_int
from mixedae_mm.utils.random import seed_generators


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file, or mixedae_mm::NAME')
    parser.add_argument('--output-dir', '-o', type=path, default=Path('browse'),
                        help='folder for the figures (default: browse)')
    parser.add_argument('--phase', '-p', choices=PHASES, default='train')
    parser.add_argument('--show-number', '-n', type=positive_int, default=16,
                        help='how many samples (default: 16)')
    parser.add_argument('--seed', type=int, default=0, help='of augmentation and masks')
    add_shown_channels(parser)
    add_config_options(parser)
    parser.set_defaults(launcher='none', work_dir=None)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    seed_generators(args.seed)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    # Not the first ones: they are of one class.
    positions = [random.randrange(2**62) for _ in range(args.show_number)]
    figures = browse(cfg, args.phase, positions, channels=args.show_channels)
    for number, figure in enumerate(figures):
        file = args.output_dir / f'{args.phase}_{number:03d}.png'
        figure.savefig(file, dpi=130)
        print(f'wrote {file}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
