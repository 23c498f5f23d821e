"""Write the report of the transfer demo."""
from pathlib import Path
from typing import Dict, List, Mapping, Sequence

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
COLOURS = [PALETTE[SCENE_CLASSES.index(name)]
           for name in ('background', *CLASSES)]
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
    draw = dict(classification=_classification, detection=_detection,
                segmentation=_segmentation, unseen=_detection)
    names = {task.name: 'unseen' if task.name == UNSEEN else task.name
             for task in TASKS}
    of_task = {name: [run for run in runs if run.task.name == task]
               for task, name in names.items()}
    write_page(
        out, TEMPLATE, setting=setting, results=results_table(results), caveat=CAVEAT,
        lengths=[_length(found[0]) for found in of_task.values() if found],
        times=times, **{name: found and draw[name](found, data)
                        for name, found in of_task.items()})


def _classification(runs: Sequence[FineTuning], data: Path) -> Figure:
    folders = sorted((data / 'objects/val').iterdir())
    images = [str(sorted(folder.iterdir())[0]) for folder in folders]
    predictions = {
        run.start: pictures.classify(*_files(run), images)
        for run in runs
    }
    return pictures.draw_classes(images, [f.name for f in folders], predictions)


def _segmentation(runs: Sequence[FineTuning], data: Path) -> Figure:
    root = data / 'scenes/ade'
    images = sorted((root / 'images/validation').iterdir())[:NUM_PICTURES]
    truth = [
        np.asarray(Image.open(root / f'annotations/validation/{i.stem}.png'))
        - 1 for i in images
    ]
    predictions = {
        run.start: pictures.segment(*_files(run), list(map(str, images)))
        for run in runs
    }
    return pictures.draw_segmentations(images, truth, predictions, COLOURS)


def _detection(runs: Sequence[FineTuning], data: Path) -> Figure:
    root = data / runs[0].task.data
    split = 'val2017' if runs[0].task.name == UNSEEN else 'train2017'
    images = sorted((root / split).iterdir())[:NUM_PICTURES]
    truth = pictures.read_objects(
        root / f'annotations/instances_{split}.json', [i.name for i in images])
    predictions = {
        run.start: pictures.detect(*_files(run), list(map(str, images)),
                                   [len(objects.labels) for objects in truth])
        for run in runs
    }
    # The first colour is that of the background, which is not an object.
    return pictures.draw_detections(images, truth, predictions, COLOURS[1:])


def _files(run: FineTuning):
    """Config and weights, as the inferencers take them."""
    return run.training.saved_config, run.training.checkpoint


def _length(run: FineTuning) -> List[str]:
    config = Config.fromfile(_files(run)[0])
    length = config.train_cfg
    return [
        run.task.name, run.task.data,
        f'{length.get("max_iters") or length.get("max_epochs")} '
        f'{"steps" if "max_iters" in length else "epochs"}',
        str(config.train_dataloader.batch_size)
    ]
