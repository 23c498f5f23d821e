"""From the outcomes of all runs to numbers with mean and spread."""
import csv
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch

from mixedae_mm.analysis.run_log import training_seconds
from mixedae_mm.utils.files import write_json
from mixedae_mm.utils.machine import machine
from .experiment import Experiment, Outcome
from .presets import RANDOM, TITLES, VARIANT_OF

CENTRE = 'map of the centre'  # of the image: the chance level of attention


class Metric(NamedTuple):
    """A number that each run has."""
    title: str  # for people, with the unit
    kind: str  # 'pretext'; 'transfer', what features are worth; or 'object'
    digits: int = 1  # after the decimal point
    lower_is_better: bool = False


METRICS = {
    'loss_recon': Metric('reconstruction loss', 'pretext', 4, lower_is_better=True),
    'loss_views': Metric('reconstruction loss, four similar crops of an image',
                         'pretext', 4, lower_is_better=True),
    'topk_late': Metric('TopK accuracy, layers 3 to last [%]', 'pretext'),
    'topk_last': Metric('TopK accuracy, last layer [%]', 'pretext'),
    'images_knn': Metric('own images, k-NN [%]', 'transfer'),
    'images_probe': Metric('own images, linear probe [%]', 'transfer'),
    'objects_knn': Metric('objects, k-NN [%]', 'transfer'),
    'objects_probe': Metric('objects, linear probe [%]', 'transfer'),
    'photographs_knn': Metric('grey photographs, k-NN [%]', 'transfer'),
    'photographs_probe': Metric('grey photographs, linear probe [%]', 'transfer'),
    'finetune': Metric('objects, short fine-tuning [%]', 'transfer'),
    'object_ap': Metric('attention on objects, average precision [%]', 'object'),
    'object_iou': Metric('attention on objects, mean IoU [%]', 'object'),
    'object_iou_shared': Metric('the same, one threshold for all [%]', 'object'),
}


def metrics_of(outcome: Outcome) -> Dict[str, float]:
    """The numbers of one run, those of :data:`METRICS` that it has."""
    values = outcome.values
    numbers = dict(
        values, topk_late=mean(values['topk'][2:]), topk_last=values['topk'][-1],
        **_objects(values['attention']))
    for labelled, accuracies in values['classified'].items():
        for kind in ('knn', 'probe'):
            numbers[f'{labelled}_{kind}'] = accuracies[kind]
    return {name: numbers[name] for name in METRICS if name in numbers}


def _objects(scores: Dict[str, float]) -> Dict[str, float]:
    return dict(object_ap=100 * scores['average_precision'],
                object_iou=100 * scores['iou'],
                object_iou_shared=100 * scores['iou_shared'])


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
        encoder=experiment.untrained_config().model.backbone.arch.to_dict(),
        images='own' if experiment.images else 'generated objects',
        machine=machine(device),
        missing=experiment.unfinished(),
        object_share=100 * centre['object_share'],
        centre=_objects(centre),
        num_test={
            f'{labelled}_{kind}': result['num_test']
            for labelled, result in classified.items() for kind in ('knn', 'probe')
        } | dict(finetune=preset.objects[1]),
        chance={labelled: 100 / result['num_classes']
                for labelled, result in classified.items()},
        variants={
            name: dict(_variant([o for o in outcomes if o.variant == name]),
                       **_learning_rate(experiment, name))
            for name in dict.fromkeys(o.variant for o in outcomes)
        })


def _variant(outcomes: List[Outcome]) -> Dict[str, Any]:
    numbers = [metrics_of(outcome) for outcome in outcomes]
    found = {name: [n[name] for n in numbers if name in n] for name in METRICS}
    return dict(
        title=TITLES[outcomes[0].variant],
        seeds=[outcome.seed for outcome in outcomes],
        minutes=mean(training_seconds(o.curves) / 60 for o in outcomes),
        topk=[mean(layer) for layer in zip(*(o.values['topk'] for o in outcomes))],
        metrics={name: dict(mean=mean(values),
                            std=stdev(values) if len(values) > 1 else None,
                            values=values)
                 for name, values in found.items() if values})


def _learning_rate(experiment: Experiment, name: str) -> Dict[str, Any]:
    """The rate of a variant and the losses that it was chosen by, if it was."""
    return {} if name == RANDOM else dict(
        learning_rate=experiment.learning_rate(VARIANT_OF[name]),
        trial_losses={f'{rate:g}': loss for rate, loss in
                      experiment.trial_losses(VARIANT_OF[name]).items()})


def present(summary: Dict[str, Any], kind: str) -> List[str]:
    """Names of the metrics of a kind that some variant has."""
    return [name for name, metric in METRICS.items() if metric.kind == kind and any(
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


def metric_table(summary: Dict[str, Any], names: Sequence[str],
                 labels: Optional[Dict[str, str]] = None, seeds: bool = False
                 ) -> Tuple[List[str], List[List[str]]]:
    """Header and rows of some metrics, of all variants or of those with a label.

    The number of seeds is a column if a variant has several, or if ``seeds`` is set.
    The last row of metrics of objects is what a map of the image's centre has.
    """
    variants = summary['variants']
    labels = labels or {name: entry['title'] for name, entry in variants.items()}
    rows = [[label, str(len(variants[name]['seeds'])),
             *(text_of(metric, variants[name]['metrics'].get(metric))
               for metric in names)]
            for name, label in labels.items() if name in variants]
    if names[0] in summary['centre']:
        rows.append([CENTRE, '–', *(f'{summary["centre"][name]:.1f}'
                                    for name in names)])
    table = [['pre-training', 'seeds', *(METRICS[name].title for name in names)], *rows]
    if not seeds and all(row[1] in ('1', '–') for row in rows):
        table = [[first, *others] for first, _, *others in table]
    return table[0], table[1:]


def write_results(folder: Path, summary: Dict[str, Any],
                  outcomes: Sequence[Outcome]) -> None:
    """``results.json``, and ``results.csv`` with one line per run."""
    write_json(folder / 'results.json', summary)
    with open(folder / 'results.csv', 'w', newline='') as file:
        writer = csv.writer(file)
        writer.writerow(['variant', 'seed', *METRICS, *(
            f'topk_layer_{i + 1:02d}' for i in range(len(outcomes[0].values['topk'])))])
        for outcome in outcomes:
            numbers = metrics_of(outcome)
            writer.writerow([
                outcome.variant, outcome.seed,
                *(numbers.get(name, '') for name in METRICS), *outcome.values['topk']])
