#!/usr/bin/env python
"""Classify, segment or detect in images, with a fine-tuned checkpoint.

Writes for each image a picture with the result drawn, and the result as JSON.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mixedae_mm.apis.predict import predict
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import add_shown_channels, device_name


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('images', help='an image, or a folder of any depth')
    parser.add_argument('--checkpoint', required=True,
                        help='of a fine-tuning with mmpretrain, mmseg or mmdet')
    parser.add_argument('--config', help='default: the one saved in the checkpoint')
    parser.add_argument('--out', default='predictions',
                        help='folder for the results (default: %(default)s)')
    parser.add_argument('--threshold', type=float, default=0.3,
                        help='least score of an object (default: %(default)s)')
    parser.add_argument('--device', type=device_name,
                        help='default: a GPU if there is one')
    add_shown_channels(parser)
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    results = predict(args.images, args.checkpoint, args.out, args.config,
                      args.threshold, args.device, args.show_channels)
    for result in results:
        said = (f'{result["class"]} {result["score"]:.3f}' if 'class' in result else
                ', '.join(f'{name} {share:.0%}' for name, share in
                          result['shares'].items()) if 'shares' in result else
                f'{len(result["objects"])} objects')
        print(f'{result["image"]}: {said}')
    print(f'wrote a picture and a .json of {len(results)} images to {args.out}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
