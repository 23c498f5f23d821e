#!/usr/bin/env python
"""k-NN and linear-probe accuracy of frozen features, on a folder of classes.

FOLDER holds train/<class>/* and val/<class>/*. Any ViT of mmpretrain can be
measured, MAE as well as MixedAE. Layer and pooling are chosen on a quarter of
the training images, unless --readout names them; features are standardised.
"""
import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis import evaluating  # noqa: E402
from mixedae_mm.analysis.frozen_classifiers import (best_knn,  # noqa: E402
                                                    best_probe)
from mixedae_mm.analysis.frozen_features import (  # noqa: E402
    build_labelled_dataset, extract_features, labelled_folder)
from mixedae_mm.analysis.loading import (add_model_arguments,  # noqa: E402
                                         image_size_of, load_models)
from mixedae_mm.launch.entry import report_errors  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    parser.add_argument('folder', type=Path, help='with train/ and val/')
    parser.add_argument('--readout', action='append', metavar='NAME',
                        help='such as layer_12/mean, layer_12/cls, layer_09/max; '
                        'may be given several times (default: all)')
    parser.add_argument('--k', type=int, default=20, help='neighbours (default: 20)')
    parser.add_argument('--temperature', type=float, default=0.07,
                        help='of their votes (default: 0.07)')
    parser.add_argument('--no-probe', action='store_true',
                        help='k-NN only, which takes less time')
    parser.add_argument('--batch-size', type=int, default=128)
    parser.add_argument('--num-workers', type=int, default=2,
                        help='processes that load images (default: 2)')
    parser.add_argument('--json', type=Path, help='also write the numbers there')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    results = {}
    for name, model in load_models(args).items():
        size = image_size_of(model.backbone)
        with evaluating(model):
            train, test = (
                extract_features(
                    model, build_labelled_dataset(
                        labelled_folder(args.folder / split, size)),
                    args.readout, args.batch_size, args.num_workers,
                    progress=f'{name}, {split}', rgb=True)
                for split in ('train', 'val'))
        results[name] = dict(knn=best_knn(train, test, args.k, args.temperature))
        if not args.no_probe:
            results[name]['linear probe'] = best_probe(train, test)
        for kind, result in results[name].items():
            print(f'{name}: {kind} {100 * result.accuracy:.2f} % on '
                  f'{len(test.labels)} images, {result.readout}', flush=True)
    if args.json:
        args.json.write_text(json.dumps({
            name: {kind: result._asdict() for kind, result in kinds.items()}
            for name, kinds in results.items()
        }, indent=1) + '\n')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_args()))
