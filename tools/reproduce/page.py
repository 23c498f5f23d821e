"""The report of an experiment: one HTML page that needs no other file."""
import datetime
import html
from pathlib import Path
from typing import Any, Dict, List, Sequence

from mixedae_mm.analysis.figures import (draw_accuracy_over_training,
                                draw_accuracy_per_layer, draw_attention,
                                draw_curves, outline_objects)
from mixedae_mm.analysis.loading import image_size_of
from mixedae_mm.analysis.object_awareness import attention_on_objects
from mixedae_mm.analysis.page import STYLE
from mixedae_mm.analysis.page import figure_element as _figure
from mixedae_mm.analysis.page import section as _section
from mixedae_mm.analysis.page import table_element as _table
from mixedae_mm.analysis.report import format_seconds
from mixedae_mm.analysis.run_log import smooth
from mixedae_mm.analysis.object_masks import masks_of, sample_masks
from . import measuring, verdicts
from .experiment import Experiment, Outcome, accuracy_curves
from .figures import draw_comparison
from .presets import RANDOM, TITLES, VARIANTS
from .results import METRICS, text_of

NUM_PICTURES = 8
SMOOTHING = 3  # points of the loss curves
MAIN = ('mae', 'naive_mixing', 'attention_only', 'both')
MAIN_AND_MORE = tuple(variant.name for variant in VARIANTS) + (RANDOM, )
VIEW_PAIR = ('mae_views', 'naive_mixing_views')


def write_report(experiment: Experiment, outcomes: Sequence[Outcome],
                 summary: Dict[str, Any]) -> Path:
    """Write ``report.html`` into the experiment's folder; returns its path."""
    page = [
        '<h1>MixedAE: the paper\'s claims at small size</h1>',
        f'<p class="lead">{datetime.date.today():%d %B %Y}, preset '
        f'{html.escape(summary["preset"])}. {_setting(summary)}</p>',
        _claims(summary),
        _losses(outcomes, summary),
        _recognition(outcomes, summary),
        _transfer(summary),
        _objects(experiment, outcomes, summary),
        _sweeps(summary),
        _setup(summary),
    ]
    out = experiment.folder / 'report.html'
    out.write_text(
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        '<title>The claims of MixedAE</title>'
        f'<style>{STYLE}</style></head><body><main>\n' + '\n'.join(page) +
        '\n</main></body></html>\n', encoding='utf-8')
    return out


def _claims(summary: Dict[str, Any]) -> str:
    return _section(
        'Claims', 'Reproduced: better in the claimed direction by more than '
        'noise in most numbers (partly: in some), and worse by more than noise '
        'in none. Noise is two standard errors of the difference: over seeds '
        '(pooled over all trainings), and for accuracies at least that of the '
        'number of test images.',
        '<table>', *(
            '<tr>' + ''.join(f'<td>{cell}</td>' for cell in (
                html.escape(row.where), html.escape(row.text),
                f'<b>{html.escape(row.verdict)}</b>',
                '<br>'.join(map(html.escape, row.numbers)).replace('`', '')))
            + '</tr>'
            for row in verdicts.rows(summary)), '</table>')


def _losses(outcomes: Sequence[Outcome], summary: Dict[str, Any]) -> str:
    panels = {}
    for title, variants in (
            ('groups of random images', MAIN + ('segment_embedding', )),
            ('four similar crops of an image', VIEW_PAIR)):
        curves = {
            TITLES[o.variant]: smooth(
                o.curves.get('loss_recon', o.curves.get('loss')), SMOOTHING)
            for o in outcomes
            if o.seed == 0 and o.curves and o.variant in variants
        }
        # The first steps are all alike and would set the scale.
        if curves:
            panels[title] = {
                name: (steps[len(steps) // 4:], values[len(steps) // 4:])
                for name, (steps, values) in curves.items()
            }
    return _section(
        'Does mixing make reconstruction easier?',
        'Eq. 5 says that a mixed image tells at least as much about each of '
        'its sources as a masked one, so that naive mixing would have the '
        'lower loss. For sources that have nothing in common it is an equality, '
        'so there are also groups of four similar crops of one image, where the '
        'other sources tell much. Curves: training losses of the first seed, '
        'last three quarters. Table: the loss of the trained models on new '
        'images, with the same hidden patches for all (a quarter of each image '
        'is shown; half for r = 0.5, which is an easier task).',
        _figure(draw_curves(panels, columns=2)) if panels else '',
        _metric_table(summary, ['loss_recon', 'loss_views']))


def _recognition(outcomes: Sequence[Outcome], summary: Dict[str, Any]) -> str:
    by_layer = {
        entry['title']: entry['topk']
        for name, entry in summary['variants'].items()
        if name in MAIN_AND_MORE
    }
    over_training = [
        _figure(draw_accuracy_over_training(accuracy_curves(outcome), 25),
                caption=TITLES[outcome.variant])
        for name in ('attention_only', 'both') for outcome in outcomes
        if outcome.variant == name and outcome.seed == 0
    ]
    return _section(
        'Which patches does attention choose?',
        'TopK sampling accuracy: of the patches that a patch would attend to '
        'under homologous attention, the share that comes from its own image. '
        'First figure: after training, on new images, mean over seeds (Fig. '
        '6a). Others: during training, on training images (Fig. 6b).',
        _figure(draw_accuracy_per_layer(by_layer, 25)),
        '<div class="side-by-side">', *over_training, '</div>',
        _metric_table(summary, ['topk_late', 'topk_last']))


def _transfer(summary: Dict[str, Any]) -> str:
    names = [n for n in _present(summary) if METRICS[n].is_transfer]
    chance = ', '.join(f'{name} {value:.3g} %'
                       for name, value in summary['chance'].items())
    return _section(
        'What are the features worth?',
        'Accuracy on images that were not trained on. k-NN: 20 neighbours by '
        'cosine on standardised frozen features. Linear probe: logistic '
        'regression on them. Layer and pooling (mean, maximum, CLS) are chosen '
        'for each model on held-out training images. Objects: shape and '
        'texture together make the class. Photographs: which of sixteen a '
        f'crop is from, without colours. Chance: {chance}. Bars: standard '
        'deviation over seeds.',
        _figure(draw_comparison(summary, names)),
        _metric_table(summary, names))


def _objects(experiment: Experiment, outcomes: Sequence[Outcome],
             summary: Dict[str, Any]) -> str:
    runs = {
        variant.name: run
        for variant, seed, run in experiment.pretrainings()
        if seed == 0 and run.is_finished and variant.name in MAIN + ('full', )
    }
    models = {
        TITLES[name]: measuring.model_of_run(run) for name, run in runs.items()
    }
    images = experiment.measured_images()
    pictures = ''
    if models:
        entries = attention_on_objects(
            models, sample_masks(masks_of(str(images.annotations), str(images.masked)),
                           NUM_PICTURES),
            image_size_of(next(iter(models.values())).backbone))
        pictures = _figure(
            draw_attention([outline_objects(e.image, e.mask) for e in entries],
                           {name: [e.maps[name] for e in entries]
                            for name in models}), 150)
    centre = summary['centre']
    names = [n for n in _present(summary) if n.startswith('object_')]
    return _section(
        'Does attention see objects?',
        'Attention of the last layer\'s CLS query, mean over heads, against '
        'exact masks (outlined) of objects anywhere in the image. IoU: with the '
        'best threshold of each image, or one for all. Chance of average '
        f'precision is the objects\' share, {summary["object_share"]:.1f} %; a '
        'map that only knows the centre of the image has '
        f'{centre["object_ap"]:.1f} % average precision, '
        f'{centre["object_iou"]:.1f} % IoU.',
        pictures, _metric_table(summary, names))


def _sweeps(summary: Dict[str, Any]) -> str:
    names = [n for n in _present(summary) if METRICS[n].is_transfer]
    parts = []
    for title, variants in (
            ('Mixing ratio, mixing only (Table 3a)',
             dict(naive_mixing='r = 0.25', naive_mixing_r05='r = 0.5')),
            ('K of homologous attention (Table 3d; the first layer is global)',
             dict(topk_0125='0.125 L', both='0.25 L', topk_05='0.5 L',
                  contrastive_only='L (no sampling)'))):
        rows = [
            [label, *(text_of(n, summary['variants'][name]['metrics'].get(n))
                      for n in ['topk_late', *names])]
            for name, label in variants.items() if name in summary['variants']
        ]
        parts += [f'<h3>{title}</h3>', _table(
            ['', *(METRICS[n].title for n in ['topk_late', *names])], rows)]
    return _section('Mixing ratio and K', '', *parts)


def _setup(summary: Dict[str, Any]) -> str:
    rows = [
        ['steps, images a step', f'{summary["steps"]}, {summary["batch_size"]} '
         '(full mode: a quarter of the images, as many mixed samples)'],
        ['images', summary['images']],
        *[[f'training of {entry["title"]}',
           f'{format_seconds(60 * entry["minutes"])}, seeds '
           + ', '.join(map(str, entry['seeds']))]
          for entry in summary['variants'].values() if entry['minutes']],
        ['not run', ', '.join(summary['missing']) or 'nothing'],
        *[[name, str(value)] for name, value in summary['machine'].items()],
    ]
    return _section('Set-up', '', _table(None, rows, numbers=False))


def _setting(summary: Dict[str, Any]) -> str:
    encoder = summary['encoder']
    missing = len(summary['missing'])
    return (f'{summary["steps"]} steps of {summary["batch_size"]} images; ViT of '
            f'{encoder["num_layers"]} layers and width {encoder["embed_dims"]}; '
            'the same images, steps and seeds for all.' +
            (f' {missing} runs are missing (see the end).' if missing else ''))


def _present(summary: Dict[str, Any]) -> List[str]:
    return [name for name in METRICS if any(
        name in entry['metrics'] for entry in summary['variants'].values())]


def _metric_table(summary: Dict[str, Any], names: Sequence[str]) -> str:
    return _table(
        ['', *(METRICS[n].title for n in names)],
        [[entry['title'], *(text_of(n, entry['metrics'].get(n)) for n in names)]
         for entry in summary['variants'].values()])
