#!/usr/bin/env python
"""Draw docs/images/architecture.png: who hands what to whom, who imports whom."""
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

OUT = Path(__file__).resolve().parents[1] / 'images/architecture.png'
STEP, ROOM = '#dbe9f6', '#eef3e2'
WIDTH, HEIGHT = 2.75, 1.25

# A training step, left to right: name, what it does, what it hands on.
STEPS = [
    ('datasets/', 'read, decode, crop, flip', 'images'),
    ('data preprocessor', 'normalise, draw masks,\nmix: Eq. 1, 2',
     'mixed,\nclean,\nmask'),
    ('backbone', 'MixedAEViT: segments,\nEq. 6', 'tokens'),
    ('neck', 'MixedAEDecoder:\nunmix Eq. 3, decode', 'predicted\npatches'),
    ('head', 'MixedAEPretrainHead:\nEq. 4, 7, 8', 'losses'),
]
# The package, from what users call down to what stands alone.
LAYERS = [
    [('tools/', 'train, test, demo,\nreproduce, transfer')],
    [('apis/', 'load(), predict(),\nfeatures, search'),
     ('launch/', 'train and test:\ncheck once, build')],
    [('engine/', 'hooks, resume,\noptimizers')],
    [('analysis/', 'TopK accuracy,\nattention, report'),
     ('interop/', 'timm, Hugging Face,\nMeta: names, files')],
    [('config/', 'unread keys, errors\nin one sentence')],
    [('models/', 'one registered\ncomponent per file'),
     ('datasets/', 'decode, crop,\nsample seeds'),
     ('evaluation/', 'the metric that the\ntoolboxes lack')],
    [('mixing.py', 'Eq. 1-3 as functions'), ('ops/', 'Eq. 6: reference,\nfast paths'),
     ('utils/', 'each helper once'), ('compat.py', 'two package stacks')],
]


def box(axes, x, y, name, text, colour) -> None:
    axes.add_patch(FancyBboxPatch((x, y), WIDTH, HEIGHT, facecolor=colour,
                                  boxstyle='round,pad=0.04', edgecolor='0.4'))
    axes.text(x + WIDTH / 2, y + HEIGHT - 0.12, name, ha='center', va='top',
              fontsize=9.5, weight='bold', linespacing=1.1)
    axes.text(x + WIDTH / 2, y + 0.08, text, ha='center', va='bottom', fontsize=8.5,
              color='0.25')


def main() -> None:
    figure = Figure(figsize=(11.5, 9.7))
    axes = figure.add_axes((0.01, 0.01, 0.98, 0.98))
    axes.set(xlim=(-0.2, 18.4), ylim=(-0.3, 14.4))
    axes.axis('off')
    arrow = dict(arrowstyle='-|>', color='0.3', linewidth=1.4)
    axes.text(0, 14.3, 'A training step: MixedAE.loss hands a batch from left to right',
              fontsize=11, va='top')
    for i, (name, text, handed) in enumerate(STEPS):
        x = 3.6 * i
        box(axes, x, 12.3, name, text, STEP)
        axes.annotate('', (x + 3.55, 12.7), (x + WIDTH + 0.08, 12.7), arrowprops=arrow)
        axes.text(x + 3.16, 12.8, handed, ha='center', va='bottom', fontsize=6.2)
    axes.text(0, 11.3, 'The package: each layer imports from those below it, never '
              'from those above', fontsize=11, va='top')
    for row, layer in enumerate(LAYERS):
        y = 9.6 - 1.6 * row
        left = 9 - (len(layer) * WIDTH + (len(layer) - 1) * 1.2) / 2
        for i, (name, text) in enumerate(layer):
            box(axes, left + i * (WIDTH + 1.2), y, name, text, ROOM)
    axes.annotate('', (1.2, 0.1), (1.2, 10.8), arrowprops=arrow)
    axes.text(1.0, 5.4, 'imports', rotation=90, ha='right', va='center', fontsize=9)
    figure.savefig(OUT, dpi=80)


if __name__ == '__main__':
    main()
