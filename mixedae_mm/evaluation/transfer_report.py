"""The page about the transfer demo."""
import datetime
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

import numpy as np
from mmengine.config import Config
from PIL import Image

from ..analysis.report import STYLE, _figure, _section, _table
from ..datasets.labelled_objects import PALETTE
from . import transfer_pictures as pictures
from .transfer_demo import COLUMNS, TASKS, Run, table

NUM_PICTURES = 4
CAVEAT = (
    'A ViT of 1.2 million parameters, minutes of pre-training on crops of a '
    'few photographs, one seed: this shows that the same weights work in all '
    'three toolboxes and what they are worth against none. It cannot rank '
    'MixedAE and MAE; differences of a few points between them are chance.')


def write_report(out: Path, runs: Sequence[Run],
                 results: Dict[str, Dict[str, float]], data: Path,
                 setting: Mapping[str, int]) -> None:
    """Write the page, which needs no other file.

    Args:
        out (Path): ``*.html``.
        runs (Sequence[Run]): All fine-tunings, finished.
        results (dict[str, dict[str, float]]): Start -> column -> percent.
        data (Path): The demo's data.
        setting (Mapping[str, int]): What both pre-trainings share.
    """
    header, *rows = table(results)
    steps, batch = setting.values()
    page = [
        '<h1>From pre-training to three tasks</h1>',
        f'<p class="lead">{datetime.date.today():%d %B %Y}. MixedAE and MAE, '
        f'{steps} steps of {batch} images each, against no pre-training.</p>',
        _section(
            'Results', 'In percent, on generated images that nothing was '
            'trained on: accuracy of the classifier, mean intersection over '
            'union of UperNet, average precision of boxes and masks of Cascade '
            'Mask R-CNN, by the metrics of mmpretrain, mmseg and mmdet.',
            _table(header, rows), f'<p><small>{CAVEAT}</small></p>'),
        _classification(runs, data),
        _segmentation(runs, data),
        _detection(runs, data),
        _section('Training', '', _table(
            ['task', 'images', 'steps or epochs', 'batch'],
            [_length(task, runs) for task in TASKS], numbers=False)),
    ]
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<title>Transfer demo</title>'
        f'<style>{STYLE}</style></head><body><main>\n' + '\n'.join(page) +
        '\n</main></body></html>\n', encoding='utf-8')
    assert set(COLUMNS) == set(header[1:])


def _classification(runs: Sequence[Run], data: Path) -> str:
    folders = sorted((data / 'objects/val').iterdir())
    images = [str(sorted(folder.iterdir())[0]) for folder in folders]
    predictions = {
        run.start: pictures.classify(*_files(run), images)
        for run in _of(runs, 'classification')
    }
    figure = pictures.draw_classes(images, [f.name for f in folders],
                                   predictions)
    return _section(
        'Classification', 'One image of each class, with the class that each '
        'model gives it and how sure it is. A class is a shape with a texture; '
        'neither alone tells it.', _figure(figure, 150))


def _segmentation(runs: Sequence[Run], data: Path) -> str:
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
    figure = pictures.draw_segmentations(images, truth, predictions, PALETTE)
    return _section('Segmentation', 'A colour for each class, shape and '
                    'texture; the background is grey.', _figure(figure, 150))


def _detection(runs: Sequence[Run], data: Path) -> str:
    root = data / 'scenes/coco'
    images = sorted((root / 'val2017').iterdir())[:NUM_PICTURES]
    truth = pictures.read_objects(
        root / 'annotations/instances_val2017.json', [i.name for i in images])
    predictions = {
        run.start: pictures.detect(*_files(run), list(map(str, images)))
        for run in _of(runs, 'detection')
    }
    # The palette begins with the background, which is no object.
    figure = pictures.draw_detections(images, truth, predictions, PALETTE[1:])
    return _section(
        'Detection', 'Boxes and masks with a score above '
        f'{pictures.SCORE_SHOWN}, in the colours of the classes.',
        _figure(figure, 150))


def _of(runs: Sequence[Run], name: str) -> List[Run]:
    return [run for run in runs if run.task.name == name]


def _files(run: Run):
    """Config and weights, as the inferencers take them."""
    return run.folder / run.task.config, run.best_weights()


def _length(task, runs: Sequence[Run]) -> List[str]:
    config = Config.fromfile(_files(_of(runs, task.name)[0])[0])
    length = config.train_cfg
    return [
        task.name, task.data,
        f'{length.get("max_iters") or length.get("max_epochs")} '
        f'{"steps" if "max_iters" in length else "epochs"}',
        str(config.train_dataloader.batch_size)
    ]
