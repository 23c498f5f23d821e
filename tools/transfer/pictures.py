"""Draw what fine-tuned models of the three toolboxes say of what they are tested on."""
from typing import Any, List, NamedTuple, Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from mmengine.dataset import BaseDataset, pseudo_collate
from mmengine.registry import DATASETS, init_default_scope
from mmengine.structures import InstanceData
from PIL import Image

from mixedae_mm.analysis.drawn_samples import draw
from mixedae_mm.apis.predict import fine_tuned
from mixedae_mm.config.boundary import preparing
from .fine_tunings import FineTuning

NUM_PICTURES = 4
RIGHT, WRONG = '#007a33', '#b3261e'


class Said(NamedTuple):
    """What a model says of an image, beside the truth."""
    pixels: np.ndarray  # (H, W, 3) uint8
    sample: Any  # data sample of the toolbox, with both
    scope: str  # of the toolbox
    meta: dict  # classes, and their colours


def draw_predictions(runs: Sequence[FineTuning]) -> Figure:
    """Images in rows: as they are, the truth, and what the model of each start says."""
    said = [predictions_of(run) for run in runs]
    columns = ['image', 'truth', *(run.start for run in runs)]
    figure = Figure((1.9 * len(columns), 1.9 * len(said[0])), layout='constrained')
    cells = figure.subplots(len(said[0]), len(columns), squeeze=False)
    for axes, title in zip(cells[0], columns):
        axes.set_title(title, fontsize=9)
    for axes in cells.flat:
        axes.set(xticks=[], yticks=[])
        axes.set_anchor('N')
    for row, of_image in zip(cells, zip(*said)):
        row[0].imshow(of_image[0].pixels)
        _draw(row[1], of_image[0], truth=True)
        for axes, one in zip(row[2:], of_image):
            _draw(axes, one, truth=False)
    return figure


def predictions_of(run: FineTuning) -> List[Said]:
    """Of the first images that the run was validated on, or of one of each class."""
    model, cfg, meta = fine_tuned(str(run.training.checkpoint))
    scope = cfg.default_scope
    init_default_scope(scope)
    with preparing(cfg):
        dataset = DATASETS.build(cfg.val_dataloader.dataset)
    found = []
    for index in _chosen(dataset, scope):
        with torch.no_grad():
            sample = model.test_step(pseudo_collate([dataset[index]]))[0].cpu()
        if scope == 'mmdet':
            sample.pred_instances = most_certain(
                sample.pred_instances, len(sample.gt_instances))
            boxes = sample.gt_instances.bboxes  # the visualizer takes plain tensors
            sample.gt_instances.bboxes = getattr(boxes, 'tensor', boxes)
        with Image.open(sample.img_path) as image:
            found.append(Said(np.array(image.convert('RGB')), sample, scope, meta))
    return found


def _chosen(dataset: BaseDataset, scope: str) -> List[int]:
    if scope != 'mmpretrain':
        return list(range(min(NUM_PICTURES, len(dataset))))
    labels = [int(dataset.get_data_info(i)['gt_label']) for i in range(len(dataset))]
    return [labels.index(label) for label in sorted(set(labels))]


def most_certain(found: InstanceData, number: int) -> InstanceData:
    """The ``number`` objects with the highest scores, the highest last, so on top."""
    return found[found.scores.argsort(descending=True)[:number].flip(0)]


def _draw(axes: Axes, said: Said, truth: bool) -> None:
    pixels, sample, scope, meta = said
    kind = 'gt' if truth else 'pred'
    if scope == 'mmpretrain':
        label = sample.get(f'{kind}_label').item()
        score = '' if truth else f' {sample.pred_score[label]:.2f}'
        axes.set_xlabel(meta['classes'][label].replace('_', ' ') + score, fontsize=8,
                        color=RIGHT if label == sample.gt_label.item() else WRONG)
    elif scope == 'mmseg':
        labels = sample.get(f'{kind}_sem_seg').data.squeeze().numpy()
        colours = np.array(meta['palette'], np.uint8)
        pixels = colours[labels.clip(max=len(colours) - 1)]
    else:
        pixels = draw(pixels, sample, scope, meta, threshold=0, truth=truth)
    axes.imshow(pixels)
