"""Figures of the report that no other page has."""
from typing import Any, Dict, Sequence

from matplotlib.figure import Figure

from mixedae_mm.analysis.figures import LINE_COLOURS
from .results import METRICS


def draw_comparison(summary: Dict[str, Any], metrics: Sequence[str]) -> Figure:
    """Draw one panel per metric, one row per variant, one dot per seed.

    Args:
        summary (dict): From :func:`.results.summarise`.
        metrics (Sequence[str]): What to show.

    Returns:
        Figure: Means are bars of a line, with the standard deviation.
    """
    variants = list(summary['variants'].values())
    columns = min(3, len(metrics))
    rows = -(-len(metrics) // columns)
    figure = Figure(figsize=(2.6 + 2.6 * columns, 0.9 + rows * (
        0.24 * len(variants) + 0.5)), layout='constrained')
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes, metric in zip(grid.ravel(), metrics):
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
        axes.tick_params(labelsize=8)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.spines[['top', 'right']].set_visible(False)
    first = grid[0, 0]
    first.set_yticks(range(len(variants)), [v['title'] for v in variants])
    first.set_ylim(len(variants) - 0.5, -0.5)
    for axes in grid.ravel()[len(metrics):]:
        axes.set_visible(False)
    return figure
