#!/usr/bin/env python
"""Curves of several runs in one figure.

Each run is a work folder (interrupted and resumed ones are joined) or a log
file (*/vis_data/scalars.json). `topk_accuracy` is the mean over layers.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.figures import draw_curves
from mixedae_mm.analysis.run_log import choose_curves, read_run
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import figure_file, positive_int
from mixedae_mm.utils.checks import check_names


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('runs', nargs='+', help='work folders or log files')
    parser.add_argument('--names', nargs='+',
                        help='in the legend (default: folder names)')
    parser.add_argument('--keys', nargs='+',
                        help='what to draw (default: losses and TopK accuracy)')
    parser.add_argument('--list', action='store_true',
                        help='list what was logged, and stop')
    parser.add_argument('--smooth', type=positive_int, default=1, metavar='N',
                        help='average the last N points (default: 1, nothing)')
    parser.add_argument(
        '--out', type=figure_file, default='curves.png', help='.png, .pdf or .svg')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    names = args.names or [Path(run).resolve().name for run in args.runs]
    check_names(names, len(args.runs), 'runs', '--names')
    runs = {name: read_run(run) for name, run in zip(names, args.runs)}
    if args.list:
        for name, curves in runs.items():
            print(f'{name}:  ' + '  '.join(sorted(curves)))
        return
    draw_curves(choose_curves(runs, args.keys, args.smooth)).savefig(
        args.out, dpi=200)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
