"""The images most like a given one, as a contact sheet."""
import argparse
import json
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from ..datasets.decode import UnreadableImageError, decode_rgb
from .encoder import load
from ..utils.errors import ConfigurationError
from .features import METADATA_KEY, pyarrow
from ..interop.writing import whole

ROWS_AT_A_TIME = 8192
TILE, GAP, CAPTION = 160, 12, 34
COLUMNS = 5


class Neighbour(NamedTuple):
    """An image and its cosine similarity to the query, in [-1, 1]."""
    path: str
    similarity: float


def read_settings(file: str) -> dict:
    """How the features in a Parquet file were made.

    Raises:
        ConfigurationError: If it is missing or not of ``extract_features``.
    """
    pa = pyarrow()
    if not Path(file).is_file():
        raise ConfigurationError(f'There is no file {file}.')
    try:
        metadata = pa.parquet.read_schema(file).metadata or {}
    except pa.ArrowInvalid:
        metadata = {}
    if METADATA_KEY not in metadata:
        raise ConfigurationError(
            f'{file} was not written by tools/analysis_tools/extract_features.py.')
    return json.loads(metadata[METADATA_KEY])


def nearest_neighbours(file: str, query: np.ndarray,
                       count: int) -> List[Neighbour]:
    """The most similar rows of a Parquet file of features.

    The file is read in pieces; memory does not grow with it.

    Args:
        file (str): Of ``extract_features``.
        query (np.ndarray): ``(C, )``.
        count (int): How many.

    Returns:
        list[Neighbour]: The most similar first.
    """
    query = query / np.linalg.norm(query)
    best = np.empty(0, np.float32)
    paths: List[str] = []
    with pyarrow().parquet.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(ROWS_AT_A_TIME):
            features = batch.column('feature').flatten().to_numpy().reshape(
                len(batch), -1)
            norms = np.linalg.norm(features, axis=1)
            similarity = features @ query / np.maximum(norms, 1e-12)
            candidates = np.concatenate([best, similarity])
            order = np.argsort(-candidates, kind='stable')[:count]
            column = batch.column('path')
            paths = [
                paths[i] if i < len(best) else column[int(i) - len(best)].as_py()
                for i in order
            ]
            best = candidates[order]
    return [Neighbour(path, float(s)) for path, s in zip(paths, best)]


def contact_sheet(query: str, neighbours: Sequence[Neighbour],
                  folder: Path) -> Image.Image:
    """The query and its neighbours, each with its similarity and name."""
    rows = -(-len(neighbours) // COLUMNS)
    width = (COLUMNS + 1) * (TILE + GAP) + 3 * GAP
    height = max(rows, 1) * (TILE + CAPTION + GAP) + GAP
    sheet = Image.new('RGB', (width, height), 'white')
    draw = ImageDraw.Draw(sheet)
    _place(sheet, draw, Path(query), GAP, GAP, 'query', Path(query).name)
    line = TILE + 2 * GAP + GAP // 2
    draw.line([(line, GAP), (line, height - GAP)], fill=(200, 200, 200))
    for i, neighbour in enumerate(neighbours):
        row, column = divmod(i, COLUMNS)
        _place(sheet, draw, folder / neighbour.path,
               (column + 1) * (TILE + GAP) + 3 * GAP,
               row * (TILE + CAPTION + GAP) + GAP,
               f'{i + 1}.  {neighbour.similarity:.3f}', neighbour.path)
    return sheet


def _place(sheet, draw, file: Path, left: int, top: int, title: str,
           name: str) -> None:
    try:
        pixels = decode_rgb(file.read_bytes(), str(file)).permute(1, 2, 0).numpy()
        image = ImageOps.contain(
            Image.fromarray(pixels), (TILE, TILE), Image.Resampling.LANCZOS)
        offset = ((TILE - image.width) // 2, (TILE - image.height) // 2)
        sheet.paste(image, (left + offset[0], top + offset[1]))
    except (OSError, UnreadableImageError):
        draw.rectangle([left, top, left + TILE, top + TILE], outline='grey')
        draw.text((left + GAP, top + TILE // 2), 'cannot be read', fill='grey')
    draw.text((left, top + TILE + 3), title, fill='black',
              font=ImageFont.load_default(13))
    draw.text((left, top + TILE + 19), _fit(draw, name), fill=(90, 90, 90),
              font=ImageFont.load_default(11))


def _fit(draw, name: str) -> str:
    """The end of a name that fits below a tile."""
    font = ImageFont.load_default(11)
    if draw.textlength(name, font=font) <= TILE:
        return name
    while name and draw.textlength('...' + name, font=font) > TILE:
        name = name[1:]
    return '...' + name


def search(file: str, image: str, count: int,
           checkpoint: Optional[str] = None,
           folder: Optional[str] = None,
           heads: Optional[int] = None) -> Tuple[List[Neighbour], Path]:
    """Neighbours of an image file, itself left out, and the images' folder.

    Raises:
        ConfigurationError: If a file is missing, or the checkpoint is not the
            one that the features were made with.
    """
    settings = read_settings(file)
    if count < 1:
        raise ConfigurationError(f'count is {count}, but must be at least 1.')
    if not Path(image).is_file():
        raise ConfigurationError(f'There is no image {image}.')
    checkpoint = checkpoint or settings['checkpoint']
    encoder = load(checkpoint, img_size=tuple(settings['img_size']),
                   amp=settings['amp'], heads=heads)
    if encoder.fingerprint() != settings['fingerprint']:
        raise ConfigurationError(
            f'{file} was made with another checkpoint than {checkpoint}.')
    query = encoder.features(image, settings['pooling'])[0].numpy()
    folder_path = Path(folder or settings['folder'])
    itself = Path(image).resolve()
    found = nearest_neighbours(file, query, count + 1)
    others = [n for n in found if (folder_path / n.path).resolve() != itself]
    return others[:count], folder_path


def parse_arguments(
        argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/analysis_tools/nearest_neighbours.py``."""
    parser = argparse.ArgumentParser(
        description='Show the images most like a given one (cosine similarity '
        'of their features) as a contact sheet.')
    parser.add_argument('features', metavar='FEATURES',
                        help='Parquet file of tools/analysis_tools/extract_features.py')
    parser.add_argument('image', metavar='IMAGE', help='the image to compare with')
    parser.add_argument('--out', default='neighbours.png', help='sheet to write')
    parser.add_argument('--count', type=int, default=15, help='how many neighbours')
    parser.add_argument('--checkpoint',
                        help='default: where it was when features were made')
    parser.add_argument('--folder',
                        help='of the images; default: where it was then')
    parser.add_argument('--heads', type=int,
                        help='attention heads, where the checkpoint does not say')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Search as the command line says; write the sheet and print the names."""
    if Path(args.out).suffix.lower() not in ('.png', '.jpg', '.jpeg', '.webp'):
        raise ConfigurationError(
            f'--out is {args.out}, but must end in .png, .jpg or .webp.')
    neighbours, folder = search(args.features, args.image, args.count,
                                args.checkpoint, args.folder, args.heads)
    with whole(Path(args.out)) as path:
        contact_sheet(args.image, neighbours, folder).save(path)
    for neighbour in neighbours:
        print(f'{neighbour.similarity:.4f}  {neighbour.path}')
    print(f'sheet: {args.out}')
