"""Plots of training runs and attention, for reports and papers.

Each function takes plain numbers and returns a matplotlib figure, which its
``savefig`` writes to PNG, PDF or SVG. Nothing here touches pyplot's global
state, so that hooks can draw in the middle of a training run.
"""
import io
from typing import Any, Iterable, List, Mapping, Sequence, Tuple

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Text
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike
from PIL import Image

from .run_log import Curve

LINE_COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00',
                '#56B4E9', '#555555', '#8C564B')


def literal(figure: Figure) -> Figure:
    """Draw texts as they are: a $ in a file name does not start a formula."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    return figure


def figure_to_array(figure: Figure, dpi: int = 100) -> np.ndarray:
    """Render a figure: ``(height, width, 3)`` uint8, RGB."""
    return np.array(Image.open(io.BytesIO(figure_to_png(figure, dpi))).convert('RGB'))


def figure_to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Render a figure to the bytes of a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format='png', dpi=dpi)
    return buffer.getvalue()


def draw_curves(panels: Mapping[str, Mapping[str, Curve]],
                columns: int = 3) -> Figure:
    """Draw one panel per quantity, one line per run.

    ``panels`` are title of a panel -> legend of a line -> its curve. The same legend
    has the same colour in every panel.
    """
    figure, grid = panel_grid(len(panels), columns, 3.6, 2.7)
    names = list(dict.fromkeys(name for lines in panels.values() for name in lines))
    for axes, (title, lines) in zip(grid, panels.items()):
        for name, (steps, values) in lines.items():
            colour = LINE_COLOURS[names.index(name) % len(LINE_COLOURS)]
            axes.plot(steps, values, label=name, color=colour, linewidth=1.6)
        axes.set_title(title, fontsize=10, loc='left')
        axes.set_xlabel('iteration', fontsize=9)
        if len(names) > 1:
            axes.legend(fontsize=8, frameon=False)
    return literal(figure)


def panel_grid(number: int, columns: int, width: float, height: float,
               sharey: bool = False) -> Tuple[Figure, List[Axes]]:
    """A figure and its axes, at most ``columns`` per row; sizes of one in inches."""
    columns = min(columns, number)
    rows = -(-number // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout='constrained')
    every = figure.subplots(rows, columns, squeeze=False, sharey=sharey).ravel()
    for axes in every[number:]:
        axes.set_visible(False)
    for axes in every[:number]:
        axes.spines[['top', 'right']].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=8)
    return figure, list(every[:number])


def draw_accuracy_over_training(curves: Mapping[int, Curve],
                                chance: float) -> Figure:
    """TopK sampling accuracy during training, late layers dark (Fig. 6b).

    ``curves`` are layer, counted from 1 -> accuracy in percent at iterations.
    """
    figure, axes = _accuracy_axes(
        5.2, 'iteration', chance, [values for _, values in curves.values()])
    for i, layer in enumerate(sorted(curves)):
        shade = 0.15 + 0.8 * i / max(1, len(curves) - 1)
        axes.plot(*curves[layer], color=colormaps['viridis_r'](shade),
                  linewidth=1.8, label=f'layer {layer}')
    axes.legend(fontsize=8, frameon=False, ncol=1 + (len(curves) > 8),
                loc='center left', bbox_to_anchor=(1, 0.5))
    return figure


def draw_accuracy_per_layer(accuracies: Mapping[str, Sequence[float]],
                            chance: float) -> Figure:
    """TopK sampling accuracy against depth (Fig. 6a), one line per entry.

    ``accuracies`` are legend -> accuracy in percent of every layer, in order.
    """
    figure, axes = _accuracy_axes(6.2, 'layer', chance, accuracies.values())
    for i, (name, values) in enumerate(accuracies.items()):
        axes.plot(range(1, len(values) + 1), values, marker='o', markersize=5,
                  linewidth=1.8, label=name,
                  color=LINE_COLOURS[i % len(LINE_COLOURS)])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8, frameon=False, loc='center left',
                bbox_to_anchor=(1, 0.5))
    return literal(figure)


def draw_attention(images: Sequence[np.ndarray],
                   maps: Mapping[str, Sequence[np.ndarray]],
                   columns: int = 8) -> Figure:
    """Images with their attention maps below (Fig. 5), so many columns side by side.

    Images are ``(H, W, 3)``, uint8 or float in [0, 1]; maps are label -> one ``(rows,
    columns)`` per image. All share one scale, in multiples of the attention that every
    patch would get if CLS looked at all alike.
    """
    maps = {label: [values * values.size for values in each]
            for label, each in maps.items()}
    # Few patches get very much; they must not make all others dark.
    highest = max(float(np.percentile(values, 99))
                  for each in maps.values() for values in each)
    columns = min(columns, len(images))
    blocks = -(-len(images) // columns)
    rows = 1 + len(maps)
    height, width = images[0].shape[:2]
    figure = Figure(
        figsize=(1.3 * columns + 0.9, 1.3 * height / width * blocks * rows),
        layout=ConstrainedLayoutEngine(
            w_pad=0.02, h_pad=0.02, wspace=0, hspace=0))
    grid = figure.subplots(blocks * rows, columns, squeeze=False)
    for axes in grid.ravel():
        axes.set(xticks=[], yticks=[])
        axes.set_frame_on(False)
    for i, image in enumerate(images):
        block, column = divmod(i, columns)
        grid[block * rows, column].imshow(image)
        extent = (0, image.shape[1], image.shape[0], 0)
        for row, values in enumerate(maps.values(), start=1):
            # Over the image in grey, smoothly between patch centres.
            axes = grid[block * rows + row, column]
            axes.imshow(np.asarray(image).mean(-1), cmap='gray', extent=extent)
            drawn = axes.imshow(values[i], cmap='inferno', vmin=0, vmax=highest,
                                alpha=0.7, extent=extent, interpolation='bilinear')
    for block in range(blocks):
        for row, label in enumerate(['image', *maps]):
            grid[block * rows + row, 0].set_ylabel(label, fontsize=8)
    scale = figure.colorbar(drawn, ax=grid.ravel().tolist(), extend='max', aspect=40,
                            shrink=0.9, fraction=0.05, pad=0.01)
    scale.set_label('attention of CLS; 1: all patches alike', fontsize=7)
    scale.ax.tick_params(labelsize=7)
    return literal(figure)


def draw_maps(entries: Sequence[Any]) -> Figure:
    """:func:`draw_attention` of what has an ``image`` and ``maps`` by label."""
    return draw_attention(
        [entry.image for entry in entries],
        {label: [entry.maps[label] for entry in entries] for label in entries[0].maps})


def outline_objects(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image ``(H, W, 3)`` uint8 with the edge of its mask in green."""
    inside = mask.copy()
    for axis in (0, 1):
        for shift in (-1, 1):
            inside &= np.roll(mask, shift, axis)
    outlined = image.copy()
    outlined[mask & ~inside] = (0, 255, 80)
    return outlined


def _accuracy_axes(width: float, what: str, chance: float,
                   lines: Iterable[ArrayLike]) -> Tuple[Figure, Axes]:
    """For accuracies in percent against something, with chance as a dashed line."""
    figure, (axes, ) = panel_grid(1, 1, width, 3.3)
    axes.axhline(chance, color='0.45', linestyle='--', linewidth=1)
    axes.annotate(f'chance {chance:.3g}', (0.01, chance),
                  xycoords=('axes fraction', 'data'), xytext=(0, -3),
                  textcoords='offset points', va='top', fontsize=8, color='0.4')
    axes.set(xlabel=what, ylabel='TopK sampling accuracy [%]')
    # From 0 to a round number above every value. NaN counts as 0 here.
    highest = max(float(np.nan_to_num(values).max()) for values in lines)
    axes.set_ylim(0, min(100, 20 * (int(highest / 20) + 1)))
    return figure, axes
