#!/usr/bin/env python
"""Measure MixedAE against its peers, by turns, in one run.

    attention   homologous attention against SDPA and naive TopK
    step        a training step against mmpretrain's MAE, as shipped and compiled;
                on a GPU at most 8 minutes, kernels and launches included
    memory      peak memory of that step
    backbone    peak memory of the backbone at 800 x 1333, in transfer
    data        loading pipelines, images per second and core
    listing     start-up on a folder of 200 000 images
    resume      a training step with and without exact resume

    plan        what a pre-training costs, by the number of images, computed
                from the measurements in docs/measurements
    page        write docs/speed.md from docs/measurements/*.json, where
                the others put their results with --save
                (resume has no section there)
"""
import argparse
import shlex
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools')]

import torch

import mixedae_mm  # noqa: F401
from benchmarks import attention, cost, data, memory, page, resume_cost, step
from benchmarks.compare import as_table
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import device_name, path, positive_int
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_json
from mixedae_mm.utils.machine import machine

CONFIG = 'configs/mixedae_vitb_300e.py'
MEASUREMENTS = ROOT / 'docs/measurements'
MEASURE = dict(
    attention=lambda args: attention.run(args.device, args.batch_size, args.repeats),
    step=lambda args: step.run(args.config, args.device, args.batch_size, args.repeats,
                               args.compile),
    memory=lambda args: memory.of_step(args.config, args.device, args.batch_size),
    backbone=lambda args: memory.of_backbone(args.device, args.batch_size),
    data=lambda args: data.loading(args.config, args.repeats),
    listing=lambda args: data.listing(args.images or 200_000, args.repeats),
    resume=lambda args: resume_cost.run(args.repeats))
# Of the others 16 on a CPU, 256 on a GPU.
BATCH_SIZES = dict(attention=dict(cpu=8), backbone=dict(cpu=1, cuda=1))


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('what', choices=[*MEASURE, 'plan', 'page'])
    parser.add_argument(
        '--config', default=str(ROOT / CONFIG), help=f'default: {CONFIG}')
    parser.add_argument(
        '--device', type=device_name,
        default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument(
        '--batch-size', type=positive_int,
        help='default: 8 (GPU: 256) for attention, 1 for backbone, '
        '16 (GPU: 256) otherwise')
    parser.add_argument('--repeats', type=positive_int, default=7)
    parser.add_argument(
        '--images', type=positive_int, help='listing, plan: number of images (default '
        'of listing: 200000; of plan: several)')
    parser.add_argument(
        '--compile', action='store_true',
        help='step: compile, as CompileHook does on a recent GPU, on a CPU too')
    parser.add_argument('--json', type=path, help='write the result to this file')
    parser.add_argument(
        '--note', help='what a reader of the result should know')
    parser.add_argument(
        '--save', action='store_true',
        help='write the result to docs/measurements, for the command page')
    return parser.parse_args()


def command():
    """The command line without the note, which the result has anyway."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument('--note')
    _, words = parser.parse_known_args()
    return shlex.join(['python', 'tools/benchmarks', *words])


def main(args):
    if args.what == 'page':
        return print('wrote', page.write_speed_page(MEASUREMENTS,
                                                    ROOT / 'docs/speed.md'))
    if args.what == 'plan':
        images = [args.images] if args.images else cost.FIRST_TRIES
        return print(cost.plan(MEASUREMENTS, images))
    if not Path(args.config).is_file():
        raise ConfigurationError(f'config {args.config} does not exist.')
    args.device = torch.device(args.device)
    kind = 'cuda' if args.device.type == 'cuda' else 'cpu'
    args.batch_size = args.batch_size or {
        'cpu': 16, 'cuda': 256, **BATCH_SIZES.get(args.what, {})}[kind]
    found = MEASURE[args.what](args)
    if not isinstance(found, dict):
        found = dict(rows=found)
    result = dict(
        what=args.what, command=command(), config=Path(args.config).stem,
        batch_size=args.batch_size, machine=machine(args.device), **found)
    if args.note:
        result['note'] = args.note
    print(as_table(f'{args.what}, batch {args.batch_size}', found['rows']))
    if found.get('small'):
        print(as_table(f'small model, batch {step.SMALL_BATCH}', found['small']))
    for name, reason in found.get('left_out', {}).items():
        print(f'{name}: left out, because {reason}')
    print('machine:', ', '.join(map(str, result['machine'].values())))
    paper = cost.PAPER_V100_GPU_DAYS.get(result['config'])
    if args.what == 'step' and paper:
        print(f'the paper, on V100: {paper} GPU-days for this config')
    saved = args.save and MEASUREMENTS / f'{args.what}-{args.device.type}.json'
    for file in filter(None, (args.json, saved)):
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, result)


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
