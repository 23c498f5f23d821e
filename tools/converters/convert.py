#!/usr/bin/env python
"""Convert checkpoints between libraries."""
import argparse
import sys
from pathlib import Path
from typing import Dict, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # of a checkout

from mixedae_mm.interop.convert import Conversion, convert
from mixedae_mm.interop.formats import FORMATS
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.models.checkpoint_loading import short_names
from mixedae_mm.models.checkpoint_names import COLUMN_TITLES
from mixedae_mm.utils.arguments import positive_int


def parse_arguments(
        argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Convert a ViT between mixedae_mm, mmpretrain, mmseg, '
        "mmdet, timm, Hugging Face and Meta's MAE. The format of the source is "
        'found out; every tensor is accounted for; features are compared.')
    parser.add_argument('source', metavar='SRC', help='checkpoint file or folder')
    parser.add_argument(
        'destination', metavar='DST',
        help='file (.pth, .safetensors) or folder; a folder gets a model card')
    parser.add_argument(
        '--to', required=True, choices=list(FORMATS),
        help='timm; hf: ViTModel or ViTForImageClassification; hf-mae: '
        "ViTMAEForPreTraining; mae: Meta's; mm: plain mmpretrain, mmseg, mmdet")
    parser.add_argument(
        '--encoder-only', action='store_true',
        help='leave out decoder, heads and whatever else is not the encoder')
    parser.add_argument('--heads', type=positive_int,
                        help='attention heads, where SRC does not say')
    parser.add_argument('--decoder-heads', type=positive_int,
                        help='attention heads of the decoder, likewise')
    parser.add_argument(
        '--input-channels', type=positive_int, metavar='N',
        help='make it a ViT for N channels: each gets the mean of the present weights, '
        'so that images whose channels are all equal keep their features')
    parser.add_argument('--image', help='image to compare features on')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace DST if it is there')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    print_report(convert(**vars(args)), args.source, args.destination)


def print_report(result: Conversion, source: str, destination: str) -> None:
    """What was done, in five lines."""
    vit = result.vit
    counts: Dict[str, int] = {}
    for name in vit.weights:
        part = dict(backbone='encoder', neck='decoder', head='classifier')[
            name.split('.')[0]]
        counts[part] = counts.get(part, 0) + 1
    print(f'source    {source}, names of {COLUMN_TITLES[vit.source.column]}')
    print(f'holds     {vit.description}')
    for note in vit.notes:
        print(f'assumed   {note}')
    print('mapped    ' + ', '.join(f'{n} {part} tensors'
                                   for part, n in counts.items()))
    if vit.left_out:
        print(f'left out  {len(vit.left_out)} tensors that have no place there: '
              + ', '.join(short_names(vit.left_out)))
    print(f'written   {destination}')
    print(f'checked   {result.check}')


if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
