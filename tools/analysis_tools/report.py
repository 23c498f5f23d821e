#!/usr/bin/env python
"""An HTML page about a MixedAE pre-training run, in one file.

Headline, mixing and reconstructions, loss curves, TopK accuracy, attention
maps and set-up.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.report import write_run_report
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import add_shown_channels, path
from mixedae_mm.utils.errors import ConfigurationError


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('work_dir', help='work folder of the run')
    parser.add_argument(
        'images', nargs='?', help='folder of images to show, preferably ones that '
        'were not trained on (default: the training images)')
    parser.add_argument('--out', type=path, help='default: WORK_DIR/report.html')
    parser.add_argument(
        '--seed', type=int, default=0, help='of masks and choice of images')
    add_shown_channels(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    out = str(args.out or Path(args.work_dir) / 'report.html')
    if Path(out).is_dir():  # before minutes of measuring
        raise ConfigurationError(f'--out {out} must be a file, but is a folder.')
    for label, text in write_run_report(
            args.work_dir, args.images, out, seed=args.seed,
            channels=args.show_channels).items():
        print(f'  {label}: {text}')
    print(f'wrote {out}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
