#!/usr/bin/env python
"""k-NN and linear-probe accuracy of frozen features, on a folder of classes.

FOLDER holds train/<class>/* and val/<class>/*. Any ViT of mmpretrain can be measured,
MAE as well as MixedAE. Layer and pooling are chosen on a quarter of the training
images, unless --readout names them; features are standardised. Chance and the same
model with random weights are measured beside.
"""
import argparse
import sys
from pathlib import Path
from textwrap import indent
from typing import Dict

import torch
from mmengine.model import BaseModel
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # of a checkout

from mixedae_mm.analysis.frozen_classifiers import (ReadoutAccuracy, best_knn,
                                                    best_probe)
from mixedae_mm.analysis.frozen_features import (POOLINGS, extract_features,
                                                 labelled_splits)
from mixedae_mm.analysis.loading import (add_model_arguments, channels_of,
                                         image_size_of, load_models, untrained_model)
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import (non_negative_int, output_file, path,
                                        positive_float, positive_int)
from mixedae_mm.utils.files import write_json
from mixedae_mm.utils.tables import text_table
from mixedae_mm.utils.undisturbed import evaluating

UNTRAINED = 'random weights'


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    parser.add_argument('folder', type=path, help='with train/ and val/')
    parser.add_argument('--readout', action='append', metavar='NAME',
                        help='such as layer_12/mean, layer_12/cls, layer_09/max; '
                        'may be given several times (default: all)')
    parser.add_argument('--k', type=positive_int, default=20,
                        help='neighbours (default: 20)')
    parser.add_argument('--temperature', type=positive_float, default=0.07,
                        help='of their votes (default: 0.07)')
    parser.add_argument('--no-probe', action='store_true',
                        help='k-NN only, which takes less time')
    parser.add_argument('--no-random', action='store_true',
                        help='leave out the model with random weights')
    parser.add_argument('--batch-size', type=positive_int, default=128)
    parser.add_argument('--num-workers', type=non_negative_int, default=2,
                        help='processes that load images (default: 2)')
    parser.add_argument('--json', type=output_file(),
                        help='also write the numbers there')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    models = load_models(args, () if args.no_random else (UNTRAINED, ))
    if not args.no_random:
        models = {UNTRAINED: untrained_model(args.config, args.device), **models}
    results: Dict[str, Dict[str, ReadoutAccuracy]] = {}
    for name, model in models.items():
        train, test = features_of(name, model, args)
        results[name] = {'k-NN': best_knn(train, test, args.k, args.temperature)}
        if not args.no_probe:
            results[name]['linear probe'] = best_probe(train, test)
        for kind, result in results[name].items():
            print(f'{name}: {kind} {100 * result.accuracy:.2f} % on '
                  f'{len(test.labels)} images, {result.readout}', flush=True)
    print(f'chance: {100 * chance_of(test.labels):.2f} %, always naming the most '
          f'frequent of {len(test.labels.unique())} classes')
    for name, kinds in results.items():
        for kind, result in kinds.items():
            print(f'{name}: {kind} by layer, accuracy [%] on the training images '
                  f'that were held out to choose\n{by_layer(result)}')
    if args.json:
        write_json(args.json, {
            name: {kind: result._asdict() for kind, result in kinds.items()}
            for name, kinds in results.items()})


def features_of(name: str, model: BaseModel, args: argparse.Namespace):
    """Features of the training and of the test images."""
    splits = labelled_splits(
        args.folder, image_size_of(model.backbone), channels_of(model))
    with evaluating(model):
        return [
            extract_features(model, dataset, args.readout, args.batch_size,
                             args.num_workers, progress=f'{name}, {split}', rgb=True)
            for split, dataset in zip(('train', 'val'), splits)]


def chance_of(labels: Tensor) -> float:
    """Accuracy in [0, 1] of always naming the most frequent class."""
    return float(torch.bincount(labels).max() / len(labels))


def by_layer(result: ReadoutAccuracy) -> str:
    """Format the validation accuracy [%] of every read-out, one line per layer."""
    percent = {readout: f'{100 * accuracy:.1f}'
               for readout, accuracy in result.validation.items()}
    layers = sorted({readout.partition('/')[0] for readout in percent})
    poolings = [pooling for pooling in POOLINGS
                if any(f'{layer}/{pooling}' in percent for layer in layers)]
    return indent(text_table(['', *poolings], [
        [layer, *(percent.get(f'{layer}/{pooling}', '') for pooling in poolings)]
        for layer in layers]), '    ')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
