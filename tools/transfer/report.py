"""Write the report of the transfer demo."""
from pathlib import Path
from typing import Callable, Dict, List, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from mmengine.config import Config
from PIL import Image

from demo.labelled_objects import PALETTE, SCENE_CLASSES
from mixedae_mm.analysis.page import write_page
from . import pictures
from .fine_tunings import CLASSES, TASKS, UNSEEN, FineTuning, results_table

TEMPLATE = Path(__file__).with_name('templates') / 'report.html'
NUM_PICTURES = 4
COLOURS = [PALETTE[SCENE_CLASSES.index(name)] for name in ('background', *CLASSES)]
CAVEAT = (
    'A ViT of 1.2 million parameters, minutes of pre-training on crops of a '
    'few photographs, some hundred steps of fine-tuning, one seed: this shows '
    'that the same weights work in all three toolboxes, and whether '
    'pre-training helps. Guessing has a top-1 of 25, background everywhere an '
    'mIoU of 15. "By heart" is the precision on the dozen scenes that the detector '
    'was trained on: that it can learn, not what it would find elsewhere. It cannot '
    'rank MixedAE and MAE: with one seed, a difference between them may be chance.')


def write_transfer_report(out: Path, runs: Sequence[FineTuning],
                          results: Dict[str, Dict[str, float]], data: Path,
                          setting: Mapping[str, int],
                          times: Mapping[str, str]) -> None:
    """Write the page, which needs no other file.

    Args:
        out (Path): ``*.html``.
        runs (Sequence[FineTuning]): All fine-tunings, finished.
        results (dict[str, dict[str, float]]): Start -> column -> percent.
        data (Path): The demo's data.
        setting (Mapping[str, int]): Steps and batch size of both pre-trainings.
        times (Mapping[str, str]): How long each part took, and the machine.
    """
    of_task = {name: [run for run in runs if run.task.name == name] for name in TASKS}
    write_page(
        out, TEMPLATE, setting=setting, results=results_table(results), caveat=CAVEAT,
        lengths=[_length(found[0]) for found in of_task.values() if found],
        times=times, pictures={name: DRAW[name](found, data)
                               for name, found in of_task.items() if found})


def _classification(runs: Sequence[FineTuning], data: Path) -> Figure:
    folders = sorted((data / 'objects/val').iterdir())
    images = [sorted(folder.iterdir())[0] for folder in folders]
    return pictures.draw_classes(
        images, [folder.name for folder in folders],
        _predictions(runs, images, pictures.classify))


def _segmentation(runs: Sequence[FineTuning], data: Path) -> Figure:
    root = data / 'scenes/ade'
    images = sorted((root / 'images/validation').iterdir())[:NUM_PICTURES]
    truth = [np.asarray(Image.open(root / f'annotations/validation/{image.stem}.png'))
             - 1 for image in images]
    return pictures.draw_segmentations(
        images, truth, _predictions(runs, images, pictures.segment), COLOURS)


def _detection(runs: Sequence[FineTuning], data: Path) -> Figure:
    root = data / runs[0].task.data
    split = 'val2017' if runs[0].task.name == UNSEEN else 'train2017'
    images = sorted((root / split).iterdir())[:NUM_PICTURES]
    truth = pictures.read_objects(
        root / f'annotations/instances_{split}.json', [image.name for image in images])
    predictions = _predictions(runs, images, pictures.detect,
                               [len(objects.labels) for objects in truth])
    # The first colour is that of the background, which is not an object.
    return pictures.draw_detections(images, truth, predictions, COLOURS[1:])


DRAW = {'classification': _classification, 'segmentation': _segmentation,
        'detection': _detection, UNSEEN: _detection}


def _predictions(runs: Sequence[FineTuning], images: Sequence[Path],
                 predict: Callable, *arguments) -> Dict[str, list]:
    """What the model of each start says, by one of the toolboxes' inferencers."""
    return {run.start: predict(run.training.saved_config, run.training.checkpoint,
                               list(map(str, images)), *arguments) for run in runs}


def _length(run: FineTuning) -> List[str]:
    config = Config.fromfile(run.training.saved_config)
    unit = 'steps' if 'max_iters' in config.train_cfg else 'epochs'
    length = config.train_cfg.get('max_iters') or config.train_cfg.get('max_epochs')
    return [run.task.name, run.task.data, f'{length} {unit}',
            str(config.train_dataloader.batch_size)]
