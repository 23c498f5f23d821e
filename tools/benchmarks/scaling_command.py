#!/usr/bin/env python
"""How a run scales to many GPUs, on paper: exchanges, efficiency, loading.

Nothing is measured; docs/scaling.md tells the formulas.
"""
import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# A checkout runs without being installed, from any directory.
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

from mmengine.config import Config  # noqa: E402

import mixedae_mm  # noqa: E402,F401
from benchmarks.compare import as_table  # noqa: E402
from benchmarks.scaling import (Cluster, scaling,  # noqa: E402
                                          whole_groups)
from mixedae_mm.launch.entry import report_errors  # noqa: E402
from mixedae_mm.utils.errors import ConfigurationError  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', nargs='?',
                        default=ROOT / 'configs/mixedae_vitb_300e.py',
                        help='pre-training config (default: mixedae_vitb_300e.py)')
    parser.add_argument('--gpus', type=int, nargs='+', metavar='N',
                        default=[8, 16, 32, 64, 128, 256, 512])
    for name, value in Cluster()._asdict().items():
        parser.add_argument(f'--{name.replace("_", "-")}', type=type(value),
                            default=value, help=f'assumption (default: {value})')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    cluster = Cluster(**{name: getattr(args, name) for name in Cluster._fields})
    for name, value in cluster._asdict().items():
        if value < 0 or (value == 0 and name not in (
                'latency_us', 'overlap', 'jitter')):
            raise ConfigurationError(f'--{name.replace("_", "-")} is {value}, but must '
                                     'be above 0.')
    bad = [number for number in args.gpus if number < 1 or (
        number > cluster.gpus_per_node and number % cluster.gpus_per_node)]
    if bad:
        raise ConfigurationError(
            f'--gpus has {bad[0]}, but must be at most one machine of '
            f'{cluster.gpus_per_node}, or whole machines.')
    cfg = Config.fromfile(args.config)
    possible = [number for number in args.gpus if whole_groups(cfg, number)]
    if not possible:
        raise ConfigurationError(
            f'--gpus is {args.gpus}, but the batch of {args.config} cannot be divided '
            'among them in whole groups of images.')
    rows = scaling(cfg, cluster, possible)
    print(as_table(f'{Path(args.config).stem}, on paper', rows))
    for number in args.gpus:
        if number not in possible:
            print(f'{number} GPUs: the batch cannot be divided in whole groups')
    print('assumed:', ', '.join(f'{name} {value:g}' for name, value in
                                cluster._asdict().items()))


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_args()))
