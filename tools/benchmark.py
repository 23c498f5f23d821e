#!/usr/bin/env python
"""Measure MixedAE against its peers, by turns, in one run.

    attention   homologous attention against SDPA and naive TopK
    step        a training step against mmpretrain's MAE as it ships
    memory      peak memory of that step
    backbone    peak memory of the backbone at 800 x 1333, in transfer
    data        loading pipelines, images a second and core
"""
import argparse
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402

import mixedae_mm  # noqa: E402,F401
from mixedae_mm.benchmark import (attention, backbone_memory, cost,  # noqa: E402
                                  data, step)
from mixedae_mm.benchmark.compare import as_table, machine  # noqa: E402

DEFAULT_CONFIG = ROOT / 'configs/mixedae_vitb_300e.py'


def parse_args():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'what', choices=['attention', 'step', 'memory', 'backbone', 'data'])
    parser.add_argument('--config', default=str(DEFAULT_CONFIG))
    parser.add_argument(
        '--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--batch-size', type=int,
        help='default: 8 (GPU: 256) for attention, 1 for backbone, '
        '16 (GPU: 256) otherwise')
    parser.add_argument('--repeats', type=int, default=7)
    parser.add_argument(
        '--compile', action='store_true',
        help='step: torch.compile our encoder and decoder')
    parser.add_argument('--json', help='also write the result to this file')
    return parser.parse_args()


def measure(args, device, batch_size):
    if args.what == 'attention':
        dtype = torch.bfloat16 if device.type == 'cuda' else torch.float32
        return attention.run(device, batch_size, args.repeats, dtype)
    if args.what == 'memory':
        return step.run_memory(args.config, device, batch_size)
    if args.what == 'backbone':
        return backbone_memory.run(device, batch_size)
    if args.what == 'data':
        return data.run(args.config, args.repeats)
    rows = step.run(args.config, device, batch_size, args.repeats,
                    args.compile)
    config = Config.fromfile(args.config)
    rows[-1]['device_days'] = cost.gpu_days(config, rows[-1]['images_per_s'])
    rows[0]['device_days'] = cost.gpu_days(config, rows[0]['images_per_s'])
    return rows


def main():
    args = parse_args()
    device = torch.device(args.device)
    small = dict(attention=8, backbone=1).get(args.what, 16)
    large = 1 if args.what == 'backbone' else 256
    batch_size = args.batch_size or (
        large if device.type == 'cuda' else small)
    rows = measure(args, device, batch_size)
    result = dict(
        what=args.what, batch_size=batch_size, machine=machine(device),
        rows=rows)
    print(as_table(f'{args.what}, batch {batch_size}', rows))
    print('machine:', ', '.join(map(str, result['machine'].values())))
    paper = cost.PAPER_V100_GPU_DAYS.get(Path(args.config).stem)
    if args.what == 'step' and paper:
        print(f'the paper, on V100: {paper} GPU-days for this config')
    if args.json:
        Path(args.json).write_text(json.dumps(result, indent=1) + '\n')


if __name__ == '__main__':
    main()
