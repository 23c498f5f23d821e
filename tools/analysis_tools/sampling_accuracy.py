#!/usr/bin/env python
"""TopK sampling accuracy of checkpoints on a folder of images (Fig. 6a).

Of the patches that each patch would attend to under homologous attention, the
share that comes from its own image, layer by layer. Any ViT of mmpretrain can
be measured: models that do not mix are shown mixes of four images.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.figures import draw_accuracy_per_layer
from mixedae_mm.analysis.folder_measures import folder_topk_accuracy
from mixedae_mm.analysis.loading import (add_model_arguments, common_channels,
                                         find_images, load_models)
from mixedae_mm.analysis.probe_batch import sources_of
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import figure_file, output_file, positive_int
from mixedae_mm.utils.files import write_json


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    parser.add_argument('images', help='folder, searched at any depth')
    parser.add_argument(
        '--num-images', type=positive_int, default=1024, help='at most (default: 1024)')
    parser.add_argument('--batch-size', type=positive_int, default=64)
    parser.add_argument(
        '--topk', type=positive_int,
        help='K, keys kept per query and head (default: that of the model)')
    parser.add_argument(
        '--seed', type=int, default=0, help='of images and masks')
    parser.add_argument('--out', type=figure_file,
                        help='also draw it, to a .png, .pdf or .svg')
    parser.add_argument('--json', type=output_file(),
                        help='also write the numbers to this file')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    models = load_models(args)
    paths = find_images(
        args.images, args.num_images, args.seed, common_channels(models))
    percent = {}
    for name, model in models.items():
        accuracy, used = folder_topk_accuracy(
            model, paths, args.topk, args.seed, args.batch_size)
        percent[name] = (100 * accuracy).tolist()
    chance = 100 / sources_of(next(iter(models.values())))
    print(f'TopK sampling accuracy [%] on {used} images, chance '
          f'{chance:.3g}, first layer first:')
    for name, values in percent.items():
        print(f'  {name}:  ' + '  '.join(f'{value:.1f}' for value in values))
    if args.json:
        write_json(args.json, percent)
    if args.out:
        draw_accuracy_per_layer(percent, chance).savefig(args.out, dpi=200)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
