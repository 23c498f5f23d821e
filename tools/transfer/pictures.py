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
        axes.set_title(title, fontsize=9, parse_math=False)
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
    model, _, meta = fine_tuned(str(run.training.checkpoint))
    cfg = run.training.read_config()  # that of the checkpoint has the paths of its time
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
    colours = np.array(meta.get('palette') or (), np.uint8)
    if scope == 'mmpretrain':
        label = sample.get(f'{kind}_label').item()
        score = '' if truth else f' {sample.pred_score[label]:.2f}'
        axes.set_xlabel(meta['classes'][label].replace('_', ' ') + score, fontsize=8,
                        color=RIGHT if label == sample.gt_label.item() else WRONG)
    elif scope == 'mmseg':
        labels = sample.get(f'{kind}_sem_seg').data.squeeze(0).numpy()
        pixels = colours[labels.clip(max=len(colours) - 1)]
    else:
        pixels = _draw_objects(axes, pixels, sample.get(f'{kind}_instances'), colours)
    axes.imshow(pixels)


def _draw_objects(axes: Axes, pixels: np.ndarray, found: InstanceData,
                  colours: np.ndarray) -> np.ndarray:
    """Draw boxes, with scores if there are any; return the pixels under the masks."""
    masks = np.asarray(getattr(found.masks, 'masks', found.masks), bool)
    boxes = getattr(found.bboxes, 'tensor', found.bboxes)
    for i, (label, mask, box) in enumerate(zip(found.labels, masks, boxes)):
        covered = 0.45 * pixels + 0.55 * colours[label]
        pixels = np.where(mask[..., None], covered, pixels)
        left, top, right, bottom = box.tolist()
        axes.plot([left, right, right, left, left], [top, top, bottom, bottom, top],
                  color=colours[label] / 255, linewidth=1.2)
        if 'scores' in found:
            axes.text(left + 1, top + 1, f'{found.scores[i]:.2f}', color='white',
                      fontsize=5, va='top', clip_on=True,
                      bbox=dict(pad=0.6, facecolor=colours[label] / 255, linewidth=0))
    axes.set(xlim=(0, pixels.shape[1]), ylim=(pixels.shape[0], 0))
    return pixels.astype(np.uint8)
