#!/usr/bin/env python
"""Attention maps of images: the last layer's CLS query, mean over heads (Fig. 5).

Works with any config whose backbone is a ViT with a CLS token: MixedAE, MAE,
classifiers, segmentors, detectors.
"""
import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.figures import draw_attention  # noqa: E402
from mixedae_mm.analysis.folder_measures import (  # noqa: E402
    folder_attention_maps)
from mixedae_mm.analysis.loading import (add_model_arguments,  # noqa: E402
                                         find_images, image_size_of,
                                         load_models)
from mixedae_mm.launch.entry import report_errors  # noqa: E402


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    parser.add_argument('images', help='an image, or a folder of any depth')
    parser.add_argument(
        '--out', default='attention.png',
        help='one sheet (.png, .pdf, .svg), or a folder that gets a picture '
        'an image (default: attention.png)')
    parser.add_argument(
        '--num-images', type=int, default=16,
        help='at most, spread over the folder; 0: all (default: 16)')
    parser.add_argument(
        '--size', type=int,
        help='side of the square cut out of each image (default: what the '
        'model was built for); 0: the whole image at its own size')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    paths = find_images(args.images, args.num_images or None)
    models = load_models(args)
    size = args.size
    if size is None:
        size = image_size_of(next(iter(models.values())).backbone)
    entries = folder_attention_maps(models, paths, size or None)
    out = Path(args.out)
    if out.suffix:
        entries = list(entries)
        draw_attention([entry.image for entry in entries], {
            name: [entry.maps[name] for entry in entries]
            for name in models
        }).savefig(out, dpi=200)
        print(f'wrote {out}')
        return
    out.mkdir(parents=True, exist_ok=True)
    for number, entry in enumerate(entries):
        draw_attention(
            [entry.image], {name: [entry.maps[name]] for name in models}
        ).savefig(out / f'{number:06d}_{Path(entry.path).stem}.png', dpi=200)
    print(f'wrote {out}{"/*.png"}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_args()))
