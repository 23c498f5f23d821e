"""From the outcomes of all runs to numbers with mean and spread."""
import csv
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import torch

from mixedae_mm.analysis.run_log import training_seconds
from mixedae_mm.utils.files import write_json
from mixedae_mm.utils.machine import machine
from .experiment import Experiment, Outcome
from .presets import RANDOM, TITLES, VARIANT_OF


CENTRE = 'map of the centre'  # of the image: the chance level of attention


class Metric(NamedTuple):
    """A number that each run has.

    Attributes:
        title (str): For people, with the unit.
        digits (int): After the decimal point.
        lower_is_better (bool): As losses are.
        is_transfer (bool): One of the ways to say what features are worth.
    """
    title: str
    digits: int = 1
    lower_is_better: bool = False
    is_transfer: bool = False


METRICS = {
    'loss_recon': Metric('reconstruction loss', 4, lower_is_better=True),
    'loss_views': Metric('reconstruction loss, four similar crops of an image',
                         4, lower_is_better=True),
    'topk_late': Metric('TopK accuracy, layers 3 to last [%]'),
    'topk_last': Metric('TopK accuracy, last layer [%]'),
    'images_knn': Metric('own images, k-NN [%]', is_transfer=True),
    'images_probe': Metric('own images, linear probe [%]', is_transfer=True),
    'objects_knn': Metric('objects, k-NN [%]', is_transfer=True),
    'objects_probe': Metric('objects, linear probe [%]', is_transfer=True),
    'photographs_knn': Metric('grey photographs, k-NN [%]', is_transfer=True),
    'photographs_probe': Metric('grey photographs, linear probe [%]',
                                is_transfer=True),
    'finetune': Metric('objects, short fine-tuning [%]', is_transfer=True),
    'object_ap': Metric('attention on objects, average precision [%]'),
    'object_iou': Metric('attention on objects, mean IoU [%]'),
    'object_iou_shared': Metric('the same, one threshold for all [%]'),
}


def metrics_of(outcome: Outcome) -> Dict[str, float]:
    """The numbers of one run, those of :data:`METRICS` that it has."""
    values = outcome.values
    numbers = dict(
        loss_recon=values['loss_recon'],
        loss_views=values['loss_views'],
        topk_late=mean(values['topk'][2:]),
        topk_last=values['topk'][-1],
        object_ap=100 * values['attention']['average_precision'],
        object_iou=100 * values['attention']['iou'],
        object_iou_shared=100 * values['attention']['iou_shared'])
    for labelled, accuracies in values['classified'].items():
        for kind in ('knn', 'probe'):
            numbers[f'{labelled}_{kind}'] = accuracies[kind]
    if 'finetune' in values:
        numbers['finetune'] = values['finetune']
    return {name: numbers[name] for name in METRICS if name in numbers}


def summarise(experiment: Experiment, outcomes: Sequence[Outcome]
              ) -> Dict[str, Any]:
    """Everything that report and claims are made of; JSON types."""
    preset = experiment.preset
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    centre = outcomes[0].values['centre']
    classified = outcomes[0].values['classified']
    return dict(
        preset=preset.name,
        steps=preset.steps,
        batch_size=preset.batch_size,
        seeds=preset.seeds,
        encoder=preset.encoder or dict(
            embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512),
        images='own' if experiment.images else 'generated objects',
        machine=machine(device),
        missing=experiment.unfinished(),
        object_share=100 * centre['object_share'],
        centre=dict(
            object_ap=100 * centre['average_precision'],
            object_iou=100 * centre['iou'],
            object_iou_shared=100 * centre['iou_shared']),
        num_test={
            f'{labelled}_{kind}': result['num_test']
            for labelled, result in classified.items()
            for kind in ('knn', 'probe')
        } | dict(finetune=preset.objects[1]),
        chance={
            labelled: 100 / result['num_classes']
            for labelled, result in classified.items()
        },
        variants={
            name: dict(_variant([o for o in outcomes if o.variant == name]),
                       **_learning_rate(experiment, name))
            for name in dict.fromkeys(o.variant for o in outcomes)
        })


def _variant(outcomes: List[Outcome]) -> Dict[str, Any]:
    numbers = [metrics_of(outcome) for outcome in outcomes]
    names = [name for name in METRICS if any(name in n for n in numbers)]
    layers = zip(*(outcome.values['topk'] for outcome in outcomes))
    return dict(
        title=TITLES[outcomes[0].variant],
        seeds=[outcome.seed for outcome in outcomes],
        minutes=mean(training_seconds(o.curves) / 60 for o in outcomes),
        topk=[mean(layer) for layer in layers],
        metrics={
            name: _spread([n[name] for n in numbers if name in n])
            for name in names
        })


def _learning_rate(experiment: Experiment, name: str) -> Dict[str, Any]:
    """The rate of a variant and the losses that it was chosen by, if it was."""
    return {} if name == RANDOM else dict(
        learning_rate=experiment.learning_rate(VARIANT_OF[name]),
        trial_losses={f'{rate:g}': loss for rate, loss in
                      experiment.trial_losses(VARIANT_OF[name]).items()})


def _spread(values: List[float]) -> Dict[str, Any]:
    return dict(
        mean=mean(values),
        std=stdev(values) if len(values) > 1 else None,
        values=values)


def present(summary: Dict[str, Any], chosen: Callable[[str], bool]) -> List[str]:
    """Names of the chosen metrics that some variant has."""
    return [name for name in METRICS if chosen(name) and any(
        name in entry['metrics'] for entry in summary['variants'].values())]


def text_of(metric: str, entry: Optional[Dict[str, Any]]) -> str:
    """``52.1 ± 0.4``, or ``52.1`` of a single run, or a dash."""
    if entry is None:
        return '–'
    digits = METRICS[metric].digits
    text = f'{entry["mean"]:.{digits}f}'
    if entry['std'] is not None:
        text += f' ± {entry["std"]:.{digits}f}'
    return text


def centre_row(summary: Dict[str, Any], metrics: Sequence[str]) -> List[str]:
    """What a map that knows only the centre of the image has, of each metric."""
    return [f'{summary["centre"][name]:.{METRICS[name].digits}f}'
            if name in summary['centre'] else '–' for name in metrics]


def write_results(folder: Path, summary: Dict[str, Any],
                  outcomes: Sequence[Outcome]) -> None:
    """``results.json``, and ``results.csv`` with one line per run."""
    write_json(folder / 'results.json', summary)
    with open(folder / 'results.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        layers = [f'topk_layer_{i:02d}'
                  for i in range(1, len(outcomes[0].values['topk']) + 1)]
        writer.writerow(['variant', 'seed', *METRICS, *layers])
        for outcome in outcomes:
            numbers = metrics_of(outcome)
            writer.writerow([
                outcome.variant, outcome.seed,
                *(numbers.get(name, '') for name in METRICS),
                *outcome.values['topk']
            ])
