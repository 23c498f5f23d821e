"""The report of an experiment, in HTML, and the page of documentation about it."""
from functools import partial
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence, Tuple

from matplotlib.figure import Figure

from mixedae_mm.analysis.figures import (LINE_COLOURS, draw_accuracy_over_training,
                                         draw_accuracy_per_layer, draw_curves,
                                         draw_maps, outline_objects, panel_grid)
from mixedae_mm.analysis.loading import image_size_of
from mixedae_mm.analysis.object_awareness import attention_on_objects, centre_map
from mixedae_mm.analysis.object_masks import masks_of, sample_masks
from mixedae_mm.analysis.page import render, write_page
from mixedae_mm.analysis.report import format_seconds
from mixedae_mm.analysis.run_log import layer_accuracies, smooth
from mixedae_mm.utils.errors import ConfigurationError
from mixedae_mm.utils.files import write_atomically
from mixedae_mm.utils.tables import markdown_table
from . import measuring, verdicts
from .experiment import Experiment, Outcome
from .presets import RANDOM, TITLES, VARIANTS
from .results import CENTRE, METRICS, metric_table, present

TEMPLATES = Path(__file__).with_name('templates')
BEGIN, END = '<!-- measured: begin -->', '<!-- measured: end -->'
NUM_PICTURES = 8
SMOOTHING = 3  # points of the loss curves
MAIN = ('mae', 'naive_mixing', 'attention_only', 'both')
MAIN_AND_MORE = tuple(variant.name for variant in VARIANTS) + (RANDOM, )
PICTURED = ('mae', 'both')
LOSSES = {
    'groups of random images': MAIN + ('segment_embedding', ),
    'four similar crops of an image': ('mae_views', 'naive_mixing_views'),
}
SWEEPS = {
    'Mixing ratio, mixing only (Table 3a)':
    dict(naive_mixing='r = 0.25', naive_mixing_r05='r = 0.5'),
    'K of homologous attention (Table 3d; the first layer is global)':
    dict(topk_0125='0.125 L', both='0.25 L', topk_05='0.5 L',
         contrastive_only='L (no sampling)'),
}


def write_experiment_report(experiment: Experiment, outcomes: Sequence[Outcome],
                            summary: Dict[str, Any]) -> Path:
    """Write ``report.html`` into the experiment's folder; returns its path."""
    variants, metrics = summary['variants'], partial(metric_table, summary)
    transfer = present(summary, 'transfer')
    first = [o for o in outcomes if o.seed == 0 and o.curves]
    out = experiment.folder / 'report.html'
    write_page(
        out, TEMPLATES / 'report.html', summary=summary, claims=verdicts.rows(summary),
        metrics=metrics, transfer=transfer, losses=_draw_losses(first),
        by_layer=draw_accuracy_per_layer(
            {entry['title']: entry['topk'] for name, entry in variants.items()
             if name in MAIN_AND_MORE}, 25),
        over_training={
            TITLES[o.variant]: draw_accuracy_over_training(
                layer_accuracies(o.curves), 25)
            for o in first if o.variant in ('attention_only', 'both')},
        comparison=_draw_comparison(summary, transfer),
        attention=_draw_attention(experiment, summary),
        objects=metrics(present(summary, 'object')),
        sweeps={title: metrics(['topk_late', *transfer], labels)
                for title, labels in SWEEPS.items()},
        facts=_facts(summary))
    return out


def render_measurements(summary: Dict[str, Any]) -> str:
    """Write in Markdown what was measured, for a page of documentation."""
    return render(
        TEMPLATES / 'claims.md.jinja', summary=summary, claims=markdown_table(
            ['paper', 'claim', 'verdict', 'numbers'],
            [[row.where, row.text, f'**{row.verdict}**',
              '<br>'.join(row.numbers) or '–'] for row in verdicts.rows(summary)]),
        metrics=[markdown_table(*metric_table(summary, present(summary, kind),
                                              seeds=True))
                 for kind in ('pretext', 'transfer', 'object')],
        layers=markdown_table(
            ['pre-training', *map(str, range(1, summary['encoder']['num_layers'] + 1))],
            [[entry['title'], *(f'{value:.1f}' for value in entry['topk'])]
             for entry in summary['variants'].values()]))


def write_claims_page(file: Path, measured: str) -> None:
    """Put what was measured between the marks of a page of documentation.

    What stands outside the marks stays. A file that is not there yet is made
    of the measurements alone.

    Raises:
        ConfigurationError: If the file has no marks.
    """
    before, after = around_marks(file)
    write_atomically(file, f'{before}{BEGIN}\n\n{measured}\n{END}{after}')


def around_marks(file: Path) -> Tuple[str, str]:
    """What stands before and behind the marks of a page that may not be there yet.

    Raises:
        ConfigurationError: If the file has no marks.
    """
    if not file.is_file():
        return '', '\n'
    before, _, rest = file.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ConfigurationError(
            f'{file} has no lines "{BEGIN}" and, below it, "{END}" to write between.')
    return before, after


def _draw_losses(outcomes: Sequence[Outcome]) -> Optional[Figure]:
    panels: Dict[str, dict] = {}
    for title, variants in LOSSES.items():
        for o in outcomes:
            if o.variant in variants:
                steps, values = smooth(
                    o.curves.get('loss_recon', o.curves.get('loss')), SMOOTHING)
                first = len(steps) // 4  # before, all are alike, and set the scale
                panels.setdefault(title, {})[TITLES[o.variant]] = (
                    steps[first:], values[first:])
    return draw_curves(panels, columns=2) if panels else None


def _draw_comparison(summary: Dict[str, Any], metrics: Sequence[str]) -> Figure:
    """Draw one panel per metric, one row per variant, one dot per seed, and means."""
    variants = list(summary['variants'].values())
    figure, grid = panel_grid(
        len(metrics), 3, 3.5, 0.24 * len(variants) + 0.9, sharey=True)
    for axes, metric in zip(grid, metrics):
        for row, entry in enumerate(variants):
            numbers = entry['metrics'].get(metric)
            if numbers is None:
                continue
            colour = LINE_COLOURS[row % len(LINE_COLOURS)]
            axes.plot(numbers['values'], [row] * len(numbers['values']), '.',
                      color=colour, alpha=0.5)
            axes.errorbar(numbers['mean'], row, xerr=numbers['std'] or 0,
                          fmt='D', markersize=4.5, color=colour, capsize=3)
        axes.set_title(METRICS[metric].title, fontsize=9, loc='left')
    grid[0].set_yticks(range(len(variants)), [v['title'] for v in variants])
    grid[0].set_ylim(len(variants) - 0.5, -0.5)
    return figure


def _draw_attention(experiment: Experiment, summary: Dict[str, Any]
                    ) -> Optional[Figure]:
    """Maps of MAE, MixedAE and no pre-training, each with its score (Fig. 5)."""
    models = {
        variant.name: measuring.model_of_run(run)
        for variant, seed, run in experiment.pretrainings()
        if seed == 0 and run.is_finished and variant.name in PICTURED
    }
    if not models:
        return None
    models[RANDOM] = experiment.untrained_model(0)
    images = experiment.measured_images()
    entries = attention_on_objects(
        models, sample_masks(masks_of(str(images.annotations), str(images.masked)),
                             NUM_PICTURES),
        image_size_of(next(iter(models.values())).backbone))
    centre = centre_map(*entries[0].maps[RANDOM].shape)
    precisions = {
        name: summary['variants'][name]['metrics']['object_ap']['values'][0]
        for name in models}
    precisions[CENTRE] = summary['centre']['object_ap']
    labels = {name: f'{TITLES.get(name, name)}\nAP {value:.1f} %'
              for name, value in precisions.items()}
    return draw_maps([
        entry._replace(
            image=outline_objects(entry.image, entry.mask),
            maps={labels[name]: values for name, values in dict(
                entry.maps, **{CENTRE: centre / centre.sum()}).items()})
        for entry in entries])


def _facts(summary: Dict[str, Any]) -> List[List[str]]:
    variants = summary['variants'].values()
    return [
        ['steps, images per step', f'{summary["steps"]}, {summary["batch_size"]} '
         '(full mode with equal work: a quarter of the images)'],
        *[[f'learning rate of {entry["title"]}', f'{entry["learning_rate"]:g}' + (
            f', of held-out losses of {losses}' if (losses := ', '.join(
                f'{loss:.4f} at {rate}' for rate, loss in
                entry['trial_losses'].items())) else '')]
          for entry in variants if 'learning_rate' in entry],
        ['images', summary['images']],
        *[[f'training of {entry["title"]}',
           f'{format_seconds(60 * entry["minutes"])}, seeds '
           + ', '.join(map(str, entry['seeds']))]
          for entry in variants if entry['minutes']],
        ['not run', ', '.join(summary['missing']) or 'nothing'],
        *[[f'measured on: {name}', str(value)]
          for name, value in summary['machine'].items()],
    ]
