#!/usr/bin/env python
"""Draw what a model attends to, or how it mixes and reconstructs images.

attention   the last layer's CLS query, mean over heads (Fig. 5), of any config whose
            backbone is a ViT with a CLS token: MixedAE, MAE, classifiers,
            segmentors, detectors
mixing      masks, unmixed inputs and predictions of a MixedAE model
"""
import argparse
import sys
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.figures import draw_maps
from mixedae_mm.analysis.folder_measures import (folder_attention_maps,
                                                 folder_mixing_panels)
from mixedae_mm.analysis.loading import (add_device, add_model_arguments, channels_of,
                                         common_channels, find_images, image_size_of,
                                         load_model, load_models)
from mixedae_mm.analysis.panels import draw_mixing_panel
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import (FIGURE_SUFFIXES, add_shown_channels,
                                        figure_file, non_negative_int, path,
                                        positive_int)
from mixedae_mm.utils.files import check_file


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar='{attention,mixing}')

    attention = kinds.add_parser('attention')
    attention.set_defaults(draw=draw_attention_maps)
    add_model_arguments(attention)
    attention.add_argument('images', help='an image, or a folder of any depth')
    attention.add_argument(
        '--out', type=path, default='attention.png',
        help='one sheet (.png, .pdf, .svg), or a folder that gets one figure per '
        'image (default: attention.png)')
    attention.add_argument(
        '--num-images', type=non_negative_int, default=16,
        help='at most, spread over the folder; 0: all (default: 16)')
    attention.add_argument(
        '--size', type=non_negative_int,
        help='side of the square cut out of each image (default: what the model was '
        'built for); 0: the whole image at its own size')

    mixing = kinds.add_parser('mixing')
    mixing.set_defaults(draw=draw_mixing)
    mixing.add_argument('config', help='config file of a MixedAE model')
    mixing.add_argument('checkpoint', help='its weights')
    mixing.add_argument(
        'images', nargs='+', help='images in the order they are mixed, or a folder '
        'from which some are drawn at random')
    mixing.add_argument(
        '--num-panels', type=positive_int, default=1,
        help='how many mixed samples of a folder to show (default: 1)')
    mixing.add_argument(
        '--seed', type=int, default=0, help='of masks and choice of images')
    mixing.add_argument(
        '--out', type=figure_file, default='mixing.png',
        help='.png, .pdf or .svg; numbered if there are several')
    add_device(mixing)
    for kind in (attention, mixing):
        add_shown_channels(kind)
    return parser.parse_args()


def draw_attention_maps(args: argparse.Namespace) -> None:
    out = args.out
    if out.suffix:
        check_file(out, overwrite=True, suffixes=FIGURE_SUFFIXES)
    models = load_models(args)
    paths = find_images(args.images, args.num_images or None,
                        channels=common_channels(models))
    size = args.size
    if size is None:
        size = image_size_of(next(iter(models.values())).backbone)
    entries = folder_attention_maps(models, paths, size or None, args.show_channels)
    if out.suffix:
        draw_maps(list(entries)).savefig(out, dpi=200)
        print(f'wrote {out}')
        return
    out.mkdir(parents=True, exist_ok=True)
    for number, entry in enumerate(entries):
        draw_maps([entry]).savefig(
            out / f'{number:06d}_{Path(entry.path).stem}.png', dpi=200)
    print(f'wrote {out / "*.png"}')


def draw_mixing(args: argparse.Namespace) -> None:
    out = args.out
    model = load_model(args.config, args.checkpoint, args.device)
    paths = args.images
    if len(paths) == 1:
        paths = find_images(
            paths[0], seed=args.seed, channels=channels_of(model))
    panels = list(islice(
        folder_mixing_panels(model, paths, args.seed, args.show_channels),
        args.num_panels))
    for number, panel in enumerate(panels):
        name = out.with_stem(f'{out.stem}_{number}') if len(panels) > 1 else out
        draw_mixing_panel(panel).savefig(name, dpi=200)
        print(f'wrote {name}')


if __name__ == '__main__':
    arguments = parse_arguments()
    sys.exit(report_errors(arguments.draw, arguments))
