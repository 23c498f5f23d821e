"""k-NN and linear probe on a folder of classes, with chance and random weights."""
import argparse
from pathlib import Path
from typing import Dict, NamedTuple, Optional, Sequence, Tuple

import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from torch import Tensor

from ..utils.arguments import (non_negative_int, output_file, positive_float,
                               positive_int)
from ..utils.files import write_json
from ..utils.undisturbed import evaluating
from .frozen_classifiers import ReadoutAccuracy, best_knn, best_probe
from .frozen_features import (POOLINGS, LabelledFeatures, extract_features,
                              labelled_splits)
from .loading import (add_model_arguments, channels_of, image_size_of, load_models,
                      untrained_model)

UNTRAINED = 'random weights'


class Setting(NamedTuple):
    """How models are measured; see the options of the command."""
    folder: Path
    readouts: Optional[Sequence[str]]
    k: int
    temperature: float
    with_probe: bool
    batch_size: int
    num_workers: int


def measure_model(name: str, model: BaseModel, setting: Setting
                  ) -> Tuple[Dict[str, ReadoutAccuracy], Tensor]:
    """Accuracies of one model, by classifier, and the labels of the test images."""
    train, test = labelled_features(name, model, setting)
    results = {'k-NN': best_knn(train, test, setting.k, setting.temperature)}
    if setting.with_probe:
        results['linear probe'] = best_probe(train, test)
    return results, test.labels


def labelled_features(name: str, model: BaseModel, setting: Setting
                      ) -> Tuple[LabelledFeatures, LabelledFeatures]:
    """Features of the training and of the test images."""
    train, val = labelled_splits(
        setting.folder, image_size_of(model.backbone), channels_of(model))

    def features_of(dataset: BaseDataset, split: str) -> LabelledFeatures:
        return extract_features(
            model, dataset, setting.readouts, setting.batch_size,
            setting.num_workers, progress=f'{name}, {split}', rgb=True)

    with evaluating(model):
        return features_of(train, 'train'), features_of(val, 'val')


def chance_of(labels: Tensor) -> float:
    """Accuracy in [0, 1] of always naming the most frequent class."""
    return float(torch.bincount(labels).max() / len(labels))


def by_layer(result: ReadoutAccuracy) -> str:
    """Format the validation accuracy [%] of every read-out, one line per layer."""
    layers = sorted({readout.partition('/')[0] for readout in result.validation})
    poolings = [pooling for pooling in POOLINGS if any(
        readout.endswith(f'/{pooling}') for readout in result.validation)]
    lines = ['    ' + ' ' * 8 + ''.join(f'{pooling:>8}' for pooling in poolings)]
    for layer in layers:
        values = [result.validation.get(f'{layer}/{pooling}') for pooling in poolings]
        lines.append(f'    {layer}' + ''.join(
            f'{"":>8}' if value is None else f'{100 * value:8.1f}'
            for value in values))
    return '\n'.join(lines)


def parse_arguments(
        argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of k-NN and probe in ``tools/analysis_tools``."""
    parser = argparse.ArgumentParser(
        description='k-NN and linear-probe accuracy of frozen features. FOLDER holds '
        'train/<class>/* and val/<class>/*. Any ViT of mmpretrain can be measured, MAE '
        'as well as MixedAE. Layer and pooling are chosen on a quarter of the '
        'training images, unless --readout names them; features are standardised. '
        'Chance and the same model with random weights are measured beside.')
    add_model_arguments(parser)
    parser.add_argument('folder', type=Path, help='with train/ and val/')
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
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Measure as the command line says; print accuracies and the tables by layer."""
    setting = Setting(args.folder, args.readout, args.k, args.temperature,
                      not args.no_probe, args.batch_size, args.num_workers)
    models = load_models(args, () if args.no_random else (UNTRAINED, ))
    if not args.no_random:
        models = {UNTRAINED: untrained_model(args.config, args.device), **models}
    results = {}
    for name, model in models.items():
        results[name], labels = measure_model(name, model, setting)
        for kind, result in results[name].items():
            print(f'{name}: {kind} {100 * result.accuracy:.2f} % on '
                  f'{len(labels)} images, {result.readout}', flush=True)
    print(f'chance: {100 * chance_of(labels):.2f} %, always naming the most frequent '
          f'of {len(labels.unique())} classes')
    for name, kinds in results.items():
        for kind, result in kinds.items():
            print(f'{name}: {kind} by layer, accuracy [%] on the training images '
                  f'that were held out to choose\n{by_layer(result)}')
    if args.json:
        write_json(args.json, {
            name: {kind: result._asdict() for kind, result in kinds.items()}
            for name, kinds in results.items()
        })
