#!/usr/bin/env python
"""Draw the pictures of the documentation from the demo's run.

    make demo && .venv/bin/python docs/scripts/draw_pictures.py work_dirs/demo
"""
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mixedae_mm.analysis import mix_for_probing
from mixedae_mm.analysis.attention_probe import attention_probe
from mixedae_mm.analysis.figures import (draw_accuracy_over_training,
                                         draw_curves)
from mixedae_mm.analysis.loading import (find_images, image_size_of,
                                         load_images, load_model)
from mixedae_mm.analysis.panels import (draw_mixing_panel, mixing_panel,
                                        show_image)
from mixedae_mm.analysis.report import run_files
from mixedae_mm.analysis.run_log import (layer_accuracies,
                                         read_run)
from mixedae_mm.ops import topk_mask

OUT = ROOT / 'docs/images'
# Photographs that differ, one from each corner of the set.
CHOICE = (0, 3, 6, 9)


def draw_kept_keys(model, batch, layers, source=2) -> Figure:
    """Which patches TopK keeps for the patches of one image (Eq. 6, Fig. 6)."""
    preprocessor, grid = model.data_preprocessor, model.backbone.patch_resolution
    own = batch.mix_mask[0] == source
    kept = {}

    def keep(layer, queries, keys, scale):
        scores = queries[:, :, 1:][:, :, own] @ keys.mT * scale
        chosen = topk_mask(scores, len(own) // batch.num_sources)[0, ..., 1:]
        kept[layer] = chosen.float().mean((0, 1))  # over heads and queries

    with torch.no_grad(), attention_probe(model.backbone, keep, layers):
        model.backbone(batch.mixed, batch.mix_mask)
    mixed = (batch.mixed[0] * preprocessor.std + preprocessor.mean) / 255
    figure = Figure(figsize=(2.1 * (len(layers) + 2), 2.4), layout='constrained')
    axes = figure.subplots(1, len(layers) + 2)
    show_image(axes[0], mixed.permute(1, 2, 0).clamp(0, 1), 'mixed sample')
    maps = {'patches of one image': own.float()}
    for layer in layers:
        share = kept[layer][own].sum() / kept[layer].sum()
        maps[f'kept in layer {layer + 1}: {share:.0%} own'] = kept[layer]
    for ax, (title, values) in zip(axes[1:], maps.items()):
        show_image(ax, values.reshape(grid), title)
        ax.images[0].set(cmap='Greys', clim=(0, 1))
        ax.add_patch(Rectangle((-0.5, -0.5), grid[1], grid[0], fill=False))
    return figure


def main(work_dir: str) -> None:
    config, checkpoint = run_files(work_dir)
    model = load_model(config, checkpoint)
    paths = find_images(Path(work_dir) / 'data/val')
    chosen = [paths[i * len(paths) // 12] for i in CHOICE]
    size = image_size_of(model.backbone)
    images = torch.stack([image for _, image in load_images(chosen, size)])
    batch = mix_for_probing(model, images, seed=0)
    curves = read_run(work_dir)
    OUT.mkdir(exist_ok=True)
    pictures = dict(
        mixing=draw_mixing_panel(mixing_panel(model, images, batch.mix_mask)),
        kept_keys=draw_kept_keys(model, batch, layers=(1, 4)),
        curves=draw_curves({
            title: {'': curve} for title, curve in (
                ('reconstruction loss', curves['loss_recon']),
                ('contrastive loss', curves['loss_homocon']))}),
        topk_accuracy=draw_accuracy_over_training(layer_accuracies(curves), 25))
    for name, figure in pictures.items():
        figure.savefig(OUT / f'{name}.png', dpi=90)
        print(f'wrote {OUT / name}.png')


if __name__ == '__main__':
    main(sys.argv[1])
