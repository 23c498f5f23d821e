"""Draw what fine-tuned models of the three toolboxes predict for an image.

Predictions come from the toolboxes' own inferencers, figures from matplotlib.
"""
import contextlib
from pathlib import Path
from typing import Dict, List, NamedTuple, Sequence, Tuple

import numpy as np
from matplotlib.figure import Figure
from PIL import Image


class Objects(NamedTuple):
    """Objects of an image: predicted, or the truth."""
    labels: List[int]
    boxes: np.ndarray  # (N, 4): left, top, right, bottom
    masks: List[np.ndarray]  # (H, W) bool each
    scores: Sequence[float] = ()  # empty for the truth


def classify(config: Path, weights: Path,
             images: Sequence[str]) -> List[Tuple[str, float]]:
    """Class and its score for each image, by mmpretrain's inferencer."""
    from mmpretrain import ImageClassificationInferencer
    infer = ImageClassificationInferencer(
        model=str(config), pretrained=str(weights))
    results = infer(list(images), batch_size=8)
    return [(r['pred_class'], r['pred_score']) for r in results]


def segment(config: Path, weights: Path,
            images: Sequence[str]) -> List[np.ndarray]:
    """Class of each pixel of each image, by mmseg's inferencer."""
    from mmseg.apis import MMSegInferencer
    infer = MMSegInferencer(model=str(config), weights=str(weights))
    infer.show_progress = False  # mmseg 1.2 takes no such argument
    results = [infer(image)['predictions'] for image in images]
    return [np.asarray(result).squeeze() for result in results]


def detect(config: Path, weights: Path, images: Sequence[str],
           numbers: Sequence[int]) -> List[Objects]:
    """The objects with the highest scores of each image, by mmdet's inferencer."""
    from mmdet.apis import DetInferencer
    infer = DetInferencer(
        model=str(config), weights=str(weights), show_progress=False)
    return [most_certain(
        infer(image, return_datasamples=True)['predictions'][0], number)
        for image, number in zip(images, numbers)]


def read_objects(annotations: Path, file_names: Sequence[str]) -> List[Objects]:
    """The truth about some images of a file of COCO's, with labels counted from 0."""
    from pycocotools.coco import COCO
    with contextlib.redirect_stdout(None):  # it says how long it took
        coco = COCO(annotations)
    order = coco.getCatIds()
    ids = {image['file_name']: number for number, image in coco.imgs.items()}
    truth = []
    for name in file_names:
        entries = coco.imgToAnns[ids[name]]
        boxes = np.array([e['bbox'] for e in entries], float).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        truth.append(Objects([order.index(e['category_id']) for e in entries], boxes,
                             [coco.annToMask(e).astype(bool) for e in entries]))
    return truth


def draw_classes(images: Sequence[str], truth: Sequence[str],
                 predictions: Dict[str, Sequence[Tuple[str, float]]]) -> Figure:
    """Images with the classes that each model gives them."""
    figure = Figure((1.75 * len(images), 2.7), layout='constrained')
    for axes, image, label, *given in zip(
            figure.subplots(1, len(images)), images, truth, *predictions.values()):
        axes.imshow(Image.open(image).convert('RGB'))
        axes.set_title(label.replace('_', ' '), fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.set_xlabel('\n' * len(given), fontsize=12)  # room for the lines
        for line, (name, (kind, score)) in enumerate(zip(predictions, given)):
            axes.text(
                0.5, -0.08 - 0.13 * line,
                f'{name.split()[0]}: {kind.replace("_", " ")} {score:.2f}',
                transform=axes.transAxes, ha='center', va='top', fontsize=7,
                color='#007a33' if kind == label else '#b3261e')
    return figure


def draw_segmentations(images: Sequence[str], truth: Sequence[np.ndarray],
                       predictions: Dict[str, Sequence[np.ndarray]],
                       palette: Sequence[Sequence[int]]) -> Figure:
    """A row for each image: itself, the truth, what each model says."""
    colours = np.array(palette, np.uint8)
    figure, cells = _grid(images, ['image', 'truth', *predictions])
    for row, image in enumerate(images):
        cells[row][0].imshow(Image.open(image).convert('RGB'))
        maps = [truth[row], *(p[row] for p in predictions.values())]
        for axes, labels in zip(cells[row][1:], maps):
            axes.imshow(colours[labels.clip(max=len(colours) - 1)])
    return figure


def draw_detections(images: Sequence[str], truth: Sequence[Objects],
                    predictions: Dict[str, Sequence[Objects]],
                    palette: Sequence[Sequence[int]]) -> Figure:
    """A row for each image: the truth, then what each model finds."""
    figure, cells = _grid(images, ['truth', *predictions])
    for row, image in enumerate(images):
        pixels = np.asarray(Image.open(image).convert('RGB'), float)
        found = [truth[row], *(p[row] for p in predictions.values())]
        for axes, objects in zip(cells[row], found):
            _draw_objects(axes, pixels, objects, palette)
    return figure


def _draw_objects(axes, pixels: np.ndarray, objects: Objects,
                  palette: Sequence[Sequence[int]]) -> None:
    shown = pixels.copy()
    for label, mask in zip(objects.labels, objects.masks):
        shown[mask] = 0.45 * shown[mask] + 0.55 * np.array(palette[label])
    axes.imshow(shown.astype(np.uint8))
    for number, (label, (left, top, right, bottom)) in enumerate(
            zip(objects.labels, objects.boxes)):
        colour = np.array(palette[label]) / 255
        axes.plot([left, right, right, left, left],
                  [top, top, bottom, bottom, top], color=colour, linewidth=1.2)
        if objects.scores:
            axes.text(left + 1, top + 1, f'{objects.scores[number]:.2f}',
                      color='white', fontsize=5, va='top',
                      bbox=dict(pad=0.6, facecolor=colour, linewidth=0),
                      clip_on=True)
    axes.set(xlim=(0, pixels.shape[1]), ylim=(pixels.shape[0], 0))


def _grid(images: Sequence[str], columns: Sequence[str]):
    figure = Figure((1.9 * len(columns), 1.8 * len(images)), layout='constrained')
    cells = figure.subplots(len(images), len(columns), squeeze=False)
    for axes, title in zip(cells[0], columns):
        axes.set_title(title, fontsize=9)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_anchor('N')
    return figure, cells


def most_certain(sample, number: int) -> Objects:
    """Return the ``number`` objects with the highest scores that mmdet found.

    The one with the highest score is last, drawn on top of the others.
    """
    found = sample.pred_instances
    order = found.scores.argsort(descending=True)[:number].flip(0)
    found = found[order].numpy()
    return Objects(found.labels.tolist(), found.bboxes,
                   [np.asarray(mask, bool) for mask in found.masks],
                   found.scores.tolist())
