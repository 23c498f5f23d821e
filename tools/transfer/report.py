"""The page about the transfer demo."""
import datetime
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

import numpy as np
from mmengine.config import Config
from PIL import Image

from mixedae_mm.analysis.page import figure_element, section, table_element, write_page
from demo.labelled_objects import PALETTE, SCENE_CLASSES
from . import pictures as pictures
from .fine_tunings import CLASSES, TASKS, FineTuning, table

NUM_PICTURES = 4
COLOURS = [PALETTE[SCENE_CLASSES.index(name)]
           for name in ('background', *CLASSES)]
CAVEAT = (
    'A ViT of 1.2 million parameters, minutes of pre-training on crops of a '
    'few photographs, some hundred steps of fine-tuning, one seed: this shows '
    'that the same weights work in all three toolboxes, and whether they are '
    'worth more than none. Guessing has a top-1 of 25, background everywhere an '
    'mIoU of 15. It cannot rank MixedAE and MAE: with one seed, a difference '
    'between them may be chance.')


def write_report(out: Path, runs: Sequence[FineTuning],
                 results: Dict[str, Dict[str, float]], data: Path,
                 setting: Mapping[str, int], times: Mapping[str, str]) -> None:
    """Write the page, which needs no other file.

    Args:
        out (Path): ``*.html``.
        runs (Sequence[FineTuning]): All fine-tunings, finished.
        results (dict[str, dict[str, float]]): Start -> column -> percent.
        data (Path): The demo's data.
        setting (Mapping[str, int]): What both pre-trainings share.
        times (Mapping[str, str]): What took how long, and where.
    """
    header, *rows = table(results)
    pictures_of = dict(classification=_classification, detection=_detection,
                       segmentation=_segmentation)
    names = [task.name for task in TASKS if _of(runs, task.name)]
    steps, batch = setting.values()
    page = [
        '<h1>From pre-training to three tasks</h1>',
        f'<p class="lead">{datetime.date.today():%d %B %Y}. MixedAE and MAE, '
        f'{steps} steps of {batch} images each, against no pre-training.</p>',
        section(
            'Results', 'In percent, on generated images that nothing was '
            'trained on: accuracy of the classifier, mean intersection over '
            'union of UperNet, average precision of boxes and masks of Cascade '
            'Mask R-CNN, by the metrics of mmpretrain, mmseg and mmdet.',
            table_element(header, rows), f'<p><small>{CAVEAT}</small></p>'),
        *(pictures_of[name](runs, data) for name in names),
        section(
            'Training', '',
            table_element(['task', 'images', 'steps or epochs', 'batch'],
                          [_length(name, runs) for name in names],
                          numbers=False),
            '<br>', table_element(None, list(times.items()), numbers=False)),
    ]
    write_page(out, 'Transfer demo', page)


def _classification(runs: Sequence[FineTuning], data: Path) -> str:
    folders = sorted((data / 'objects/val').iterdir())
    images = [str(sorted(folder.iterdir())[0]) for folder in folders]
    predictions = {
        run.start: pictures.classify(*_files(run), images)
        for run in _of(runs, 'classification')
    }
    figure = pictures.draw_classes(images, [f.name for f in folders],
                                   predictions)
    return section(
        'Classification', 'One image of each class, with the class that each '
        'model gives it and how sure it is. A class is a shape with a texture; '
        'neither alone tells it.', figure_element(figure, 150))


def _segmentation(runs: Sequence[FineTuning], data: Path) -> str:
    root = data / 'scenes/ade'
    images = sorted((root / 'images/validation').iterdir())[:NUM_PICTURES]
    truth = [
        np.asarray(Image.open(root / f'annotations/validation/{i.stem}.png'))
        - 1 for i in images
    ]
    predictions = {
        run.start: pictures.segment(*_files(run), list(map(str, images)))
        for run in _of(runs, 'segmentation')
    }
    figure = pictures.draw_segmentations(images, truth, predictions, COLOURS)
    return section('Segmentation', 'A colour for each class, shape and '
                   'texture; the background is grey.', figure_element(figure, 150))


def _detection(runs: Sequence[FineTuning], data: Path) -> str:
    root = data / 'scenes/coco'
    images = sorted((root / 'val2017').iterdir())[:NUM_PICTURES]
    truth = pictures.read_objects(
        root / 'annotations/instances_val2017.json', [i.name for i in images])
    predictions = {
        run.start: pictures.detect(*_files(run), list(map(str, images)),
                                   [len(objects.labels) for objects in truth])
        for run in _of(runs, 'detection')
    }
    # The first colour is the background's, which is no object.
    figure = pictures.draw_detections(images, truth, predictions, COLOURS[1:])
    return section(
        'Detection', 'Boxes and masks in the colours of the classes: of each '
        'model as many as there are objects, those with the highest scores.',
        figure_element(figure, 150))


def _of(runs: Sequence[FineTuning], name: str) -> List[FineTuning]:
    return [run for run in runs if run.task.name == name]


def _files(run: FineTuning):
    """Config and weights, as the inferencers take them."""
    return run.training.saved_config, run.training.checkpoint


def _length(name: str, runs: Sequence[FineTuning]) -> List[str]:
    run = _of(runs, name)[0]
    config = Config.fromfile(_files(run)[0])
    length = config.train_cfg
    return [
        name, run.task.data,
        f'{length.get("max_iters") or length.get("max_epochs")} '
        f'{"steps" if "max_iters" in length else "epochs"}',
        str(config.train_dataloader.batch_size)
    ]
