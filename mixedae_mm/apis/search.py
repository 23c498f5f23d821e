"""The images most like a given one, as a contact sheet."""
import argparse
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import normalize

from ..analysis.figures import literal
from ..analysis.panels import as_rgb, first_channels
from ..datasets.decode import UnreadableImageError
from ..datasets.reading import read_file
from ..utils.arguments import FIGURE_SUFFIXES, figure_file, positive_int
from ..utils.checks import check_count
from ..utils.errors import ConfigurationError
from ..utils.files import whole
from .encoder import Encoder, decode_image, load
from .feature_table import pyarrow, read_settings

ROWS_AT_A_TIME = 8192
COLUMNS = 5


class Neighbour(NamedTuple):
    """An image and its cosine similarity to the query, in [-1, 1]."""
    path: str
    similarity: float


def nearest_neighbours(file: str, query: Tensor, count: int) -> List[Neighbour]:
    """The rows of a Parquet file of features that are most similar to a query.

    The file is read in pieces; memory does not grow with it.

    Args:
        file (str): Of :func:`~.features.write_features`.
        query (Tensor): ``(C, )`` float32.
        count (int): How many, at least 1.

    Returns:
        list[Neighbour]: The most similar first.
    """
    query = normalize(query, dim=0)
    best: List[Neighbour] = []
    with pyarrow().parquet.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS_AT_A_TIME):
            values = torch.tensor(batch.column('feature').flatten().to_numpy())
            features = normalize(values.unflatten(0, (len(batch), -1)), dim=1)
            similarity, rows = (features @ query).topk(min(count, len(batch)))
            best += [
                Neighbour(batch.column('path')[row].as_py(), value)
                for row, value in zip(rows.tolist(), similarity.tolist())]
            best = sorted(best, key=lambda n: -n.similarity)[:count]
    return best


def search(file: str, image: str, count: int,
           checkpoint: Optional[str] = None,
           folder: Optional[str] = None,
           heads: Optional[int] = None
           ) -> Tuple[List[Neighbour], Path, Encoder]:
    """Neighbours of an image file among those of a file of features, itself left out.

    Checkpoint and folder are those of the features, unless they are given.

    Returns:
        tuple[list[Neighbour], Path, Encoder]: At most ``count``, most similar first;
        the images' folder; and the encoder.

    Raises:
        ConfigurationError: If a file is missing, ``count`` is below 1, or the
            checkpoint is not the one that the features were made with.
    """
    settings = read_settings(file)
    check_count('count', count)
    if not Path(image).is_file():
        raise ConfigurationError(f'There is no image {image}.')
    checkpoint = checkpoint or settings['checkpoint']
    encoder = load(checkpoint, img_size=tuple(settings['img_size']),
                   amp=settings['amp'], heads=heads)
    if encoder.fingerprint() != settings['fingerprint']:
        raise ConfigurationError(
            f'{file} was made with another checkpoint than {checkpoint}.')
    query = encoder.features(image, settings['pooling'])[0]
    folder_path = Path(folder or settings['folder'])
    itself = Path(image).resolve()
    found = nearest_neighbours(file, query, count + 1)
    others = [n for n in found if (folder_path / n.path).resolve() != itself]
    return others[:count], folder_path, encoder


def contact_sheet(query: str, neighbours: Sequence[Neighbour],
                  folder: Path, encoder: Encoder) -> Figure:
    """The query and its neighbours, each with its similarity and name.

    Of images with other channels than RGB the first three are drawn, or one, all by the
    mean and standard deviation of the encoder: equal values look alike.
    """
    rows = max(1, -(-len(neighbours) // COLUMNS))
    figure = Figure(figsize=(1.7 * (COLUMNS + 1), 2.1 * rows), layout='constrained')
    axes = figure.subplots(rows, COLUMNS + 1, squeeze=False)
    for cell in axes.flat:
        cell.axis('off')
    _show(axes[0, 0], Path(query), f'query\n{Path(query).name[-24:]}', encoder)
    for i, (cell, neighbour) in enumerate(zip(axes[:, 1:].flat, neighbours), 1):
        _show(cell, folder / neighbour.path,
              f'{i}.  {neighbour.similarity:.3f}\n{neighbour.path[-24:]}', encoder)
    return literal(figure)


def _show(axes: Axes, file: Path, title: str, encoder: Encoder) -> None:
    try:
        channels = encoder.channels
        pixels = decode_image(read_file(str(file)), str(file), channels)  # (C, H, W)
        if channels is not None:
            images = encoder.preprocessing.normalize(pixels)[None]
            pixels = as_rgb(
                images, encoder.preprocessing, first_channels(channels))[0]
        axes.imshow(pixels.permute(1, 2, 0))
    except (OSError, UnreadableImageError):
        axes.text(0.5, 0.5, 'cannot be read', ha='center', transform=axes.transAxes)
    # A dollar sign in a file name must not begin a formula.
    axes.set_title(title, fontsize=8)


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/analysis_tools/nearest_neighbours.py``."""
    parser = argparse.ArgumentParser(
        description='Show the images most like a given one (cosine similarity '
        'of their features) as a contact sheet.')
    parser.add_argument('features', metavar='FEATURES',
                        help='Parquet file of tools/analysis_tools/extract_features.py')
    parser.add_argument('image', metavar='IMAGE', help='the image to compare with')
    parser.add_argument('--out', type=figure_file, default='neighbours.png',
                        help=f'sheet to write: {", ".join(FIGURE_SUFFIXES)} '
                        '(default: %(default)s)')
    parser.add_argument('--count', type=positive_int, default=15,
                        help='how many neighbours')
    parser.add_argument('--checkpoint',
                        help='default: where it was when features were made')
    parser.add_argument('--folder',
                        help='of the images; default: where it was then')
    parser.add_argument('--heads', type=positive_int,
                        help='attention heads, where the checkpoint does not say')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Search as the command line says; write the sheet and print the names."""
    neighbours, folder, encoder = search(
        args.features, args.image, args.count, args.checkpoint, args.folder, args.heads)
    with whole(args.out) as path:
        contact_sheet(args.image, neighbours, folder, encoder).savefig(path, dpi=120)
    for neighbour in neighbours:
        print(f'{neighbour.similarity:.4f}  {neighbour.path}')
    print(f'sheet: {args.out}')
