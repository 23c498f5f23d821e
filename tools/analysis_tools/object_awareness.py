#!/usr/bin/env python
"""How well the CLS token's attention separates objects from background (Fig. 5).

Attention of the last layer, mean over heads, against exact masks: average
precision of the pixels, and intersection over union at the best threshold.
Masks are those of a folder like VOCdevkit/VOC2012, or of COCO's annotation
file with --images. Works with any ViT with a CLS token: MixedAE, MAE,
classifiers.
"""
import argparse
import os
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.figures import draw_maps, outline_objects
from mixedae_mm.analysis.loading import add_model_arguments, image_size_of, load_models
from mixedae_mm.analysis.object_awareness import (CENTRE, attention_on_objects,
                                                  score_models)
from mixedae_mm.analysis.object_masks import masks_of, sample_masks
from mixedae_mm.launch.entry import report_errors
from mixedae_mm.utils.arguments import (figure_file, non_negative_int, output_file,
                                        positive_int)
from mixedae_mm.utils.files import write_json
from mixedae_mm.utils.preprocessing import height_and_width
from mixedae_mm.utils.progress import with_progress
from mixedae_mm.utils.tables import text_table


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    parser.add_argument('masks', type=os.path.expanduser,
                        help="VOC's folder, or COCO's instances_*.json")
    parser.add_argument('--images', type=os.path.expanduser,
                        help="folder of the images of COCO's file")
    parser.add_argument('--split', help="one of VOC's lists, such as val "
                        '(default: every image with a mask)')
    parser.add_argument('--num-images', type=non_negative_int, default=1000,
                        help='at most, drawn at random; 0: all '
                        '(default: 1000)')
    parser.add_argument('--size', type=positive_int,
                        help='side of the square cut out of each image (default: '
                        'what the model was built for)')
    parser.add_argument('--out', type=figure_file,
                        help='also draw some images with outlined '
                        'objects and attention, to a .png, .pdf or .svg')
    parser.add_argument('--json', type=output_file(),
                        help='also write the numbers there')
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    masks = masks_of(args.masks, args.images, args.split)
    models = load_models(args, (CENTRE, ))
    height, width = size = height_and_width(
        args.size or image_size_of(next(iter(models.values())).backbone))
    count = min(args.num_images or len(masks), len(masks))
    entries = attention_on_objects(
        models, with_progress(sample_masks(masks, count), 'attention', count), size)
    scores = score_models(entries)
    first = next(iter(scores.values()))
    print(f'{first.num_images} images of {height} x {width} pixels, '
          f'{100 * first.object_share:.1f} % of them objects (which is the '
          'average precision of chance)')
    print(text_table(
        ['[%]', 'average precision', 'IoU, best threshold', 'IoU, one for all'],
        [[name, *(f'{100 * share:.1f}' for share in score[:3])]
         for name, score in scores.items()]))
    if args.json:
        write_json(args.json,
                   {name: score._asdict() for name, score in scores.items()})
    if args.out:
        shown = random.Random(0).sample(entries, min(8, len(entries)))
        draw_maps([entry._replace(image=outline_objects(entry.image, entry.mask))
                   for entry in shown]).savefig(args.out, dpi=200)
        print(f'wrote {args.out}')


if __name__ == '__main__':
    sys.exit(report_errors(main, parse_arguments()))
