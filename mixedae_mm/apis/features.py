"""Features of every image below a folder, in one Parquet file.

Finished parts are kept in ``OUT.parts/`` until all images are done. Each is
written whole, so that a run that is killed at any moment loses at most the
part it was working on, and the same command goes on with what is missing.
"""
import argparse
import fcntl
import json
import os
import shutil
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..datasets.decode import EXTENSIONS, UnreadableImageError, decode_rgb
from ..datasets.folder_index import FolderIndex, index_folder
from .encoder import POOLINGS, Encoder, load
from ..utils.errors import ConfigurationError
from ..utils.preprocessing import Preprocessing
from ..interop.writing import whole

# A part is written after so many images or seconds: what a kill can cost.
PART_SIZE = 2048
PART_SECONDS = 60.0
# Name of our settings in the metadata of a Parquet file.
METADATA_KEY = b'mixedae_mm'


class Summary(NamedTuple):
    """What a run of :func:`extract_features` did.

    Attributes:
        num_images (int): Rows of the result.
        num_new (int): Of these, computed in this run.
        bad (dict[str, str]): Unreadable images, with the reason.
        seconds (float): That this run took to compute its images.
    """
    num_images: int
    num_new: int
    bad: Dict[str, str]
    seconds: float


class ImageCrops(Dataset):
    """Images below a folder, cropped for the encoder.

    Args:
        folder (Path): The folder.
        index (FolderIndex): Its images.
        positions (np.ndarray): int64, which of them.
        preprocessing (Preprocessing): Of the encoder.
    """

    def __init__(self, folder: Path, index: FolderIndex, positions: np.ndarray,
                 preprocessing: Preprocessing) -> None:
        self.folder = folder
        self.index = index
        self.positions = positions
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, item: int) -> Tuple[str, Optional[Tensor], str]:
        """Relative path, crop ``(3, H, W)`` uint8 or None, reason for None."""
        path = path_at(self.index, self.positions[item])
        try:
            data = (self.folder / os.fsdecode(path)).read_bytes()
            image = decode_rgb(data, printable(path))
            return printable(path), self.preprocessing.crop(image), ''
        except (UnreadableImageError, OSError) as error:
            return printable(path), None, str(error)


def extract_features(folder: str,
                     out: str,
                     encoder: Encoder,
                     pooling: str = 'mean',
                     batch_size: int = 32,
                     num_workers: int = 2,
                     overwrite: bool = False,
                     progress: bool = True) -> Summary:
    """Write one feature an image into a Parquet file, or go on with it.

    The columns are ``path`` (relative to the folder) and ``feature`` (float32,
    as many as the encoder is wide). Unreadable images are not in it; they are
    listed in ``OUT.bad.tsv``. Memory does not grow with the number of images,
    but for their names.

    Args:
        folder (str): Searched at any depth.
        out (str): The file to write.
        encoder (Encoder): From :func:`mixedae_mm.load`.
        pooling (str): ``'mean'`` of the patch tokens, or ``'cls'``.
        batch_size (int): Images at a time.
        num_workers (int): Processes that decode images.
        overwrite (bool): Replace a finished file.
        progress (bool): Show a progress bar.

    Returns:
        Summary: What was done.

    Raises:
        ConfigurationError: If the folder is missing or has no image, ``out``
            is there, was begun with other settings or is being written.
    """
    pyarrow()  # before hours of work
    source = Path(folder).expanduser()
    destination = Path(out).expanduser()
    if pooling not in POOLINGS:
        raise ConfigurationError(
            f"pooling is '{pooling}', but must be one of {POOLINGS}.")
    if destination.is_dir() or not destination.parent.is_dir():
        raise ConfigurationError(
            f'{out} must be a file in a folder that exists.')
    if destination.exists() and not overwrite:
        raise ConfigurationError(
            f'{out} exists already and is complete; replace it with --overwrite.')
    index = index_folder(str(source), EXTENSIONS)
    settings = dict(
        checkpoint=os.path.abspath(encoder.name),
        fingerprint=encoder.fingerprint(),
        pooling=pooling,
        img_size=list(encoder.preprocessing.img_size),
        amp=encoder.amp,
        folder=str(source.absolute()))
    with _parts_folder(destination, settings) as parts:
        missing = _missing(index, parts)
        dataset = ImageCrops(source, index, missing, encoder.preprocessing)
        bad: Dict[str, str] = {}
        started = time.perf_counter()
        bar = _bar(len(index.ends), len(index.ends) - len(missing), progress)
        writer = PartWriter(parts, settings)
        for names, crops, reasons in _loader(dataset, batch_size, num_workers):
            bad.update(reasons)
            for name, reason in reasons.items():
                bar.write(reason)
            if names:
                writer.add(names, encoder.pool(crops, pooling).numpy())
            bar.update(len(names) + len(reasons))
        writer.flush()
        bar.close()
        seconds = time.perf_counter() - started
        num_images = merge(parts, destination, settings) if _files(parts) else 0
    if not num_images:
        raise ConfigurationError(
            f'None of the {len(index.ends)} images below {folder} can be read; '
            f'the first: {next(iter(bad.values()))}')
    shutil.rmtree(parts)
    _write_bad(destination, bad)
    return Summary(num_images, len(missing) - len(bad), bad, seconds)


class PartWriter:
    """Collects rows and writes them in parts, each of them whole.

    Args:
        folder (Path): Where parts go.
        settings (dict): Stored with every part.
    """

    def __init__(self, folder: Path, settings: dict) -> None:
        self.folder = folder
        self.settings = settings
        self.names: List[str] = []
        self.features: List[np.ndarray] = []
        self.last = time.monotonic()

    def add(self, names: Sequence[str], features: np.ndarray) -> None:
        """Keep rows; ``features`` is ``(len(names), C)`` float32."""
        self.names += names
        self.features.append(features)
        if (len(self.names) >= PART_SIZE
                or time.monotonic() - self.last > PART_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Write what is kept as the next part."""
        self.last = time.monotonic()
        if not self.names:
            return
        pa = pyarrow()
        features = np.concatenate(self.features)
        table = pa.table(
            [
                pa.array(self.names, pa.string()),
                pa.FixedSizeListArray.from_arrays(
                    pa.array(features.ravel()), features.shape[1])
            ],
            names=['path', 'feature'])
        table = table.replace_schema_metadata(
            {METADATA_KEY: json.dumps(self.settings)})
        number = len(_files(self.folder))
        with whole(self.folder / f'part-{number:06d}.parquet') as path:
            pa.parquet.write_table(table, path)
        self.names, self.features = [], []


def merge(parts: Path, destination: Path, settings: dict) -> int:
    """Parts into one file, a part at a time; returns the number of rows."""
    pa = pyarrow()
    num_rows = 0
    with whole(destination) as path:
        writer = None
        for file in _files(parts):
            table = pa.parquet.read_table(file)
            if writer is None:
                writer = pa.parquet.ParquetWriter(path, table.schema)
            writer.write_table(table)
            num_rows += table.num_rows
        writer.close()
    return num_rows


def pyarrow():
    """The package, with what we use of it.

    Raises:
        ConfigurationError: If it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise ConfigurationError(
            'Parquet files need the pyarrow package: pip install pyarrow.'
        ) from None
    return pyarrow


def path_at(index: FolderIndex, position: int) -> bytes:
    """The path at a position of an index, encoded."""
    start = index.ends[position - 1] if position else 0
    return index.names[start:index.ends[position]].tobytes()


def printable(path: bytes) -> str:
    """A path as text, also where it is no UTF-8."""
    return path.decode(errors='backslashreplace')


@contextmanager
def _parts_folder(destination: Path, settings: dict) -> Iterator[Path]:
    """The folder of parts, ours alone while the block runs."""
    parts = destination.with_name(destination.name + '.parts')
    parts.mkdir(exist_ok=True)
    with open(parts / 'settings.json', 'a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with us
        except BlockingIOError:
            raise ConfigurationError(
                f'Another process is writing {destination}.') from None
        file.seek(0)
        text = file.read()
        if not text or not _files(parts):
            file.truncate(0)
            file.write(json.dumps(settings))
            file.flush()
        elif changed := _changes(json.loads(text), settings):
            raise ConfigurationError(
                f'{parts} was begun with other settings ({"; ".join(changed)}); '
                'delete it or choose another output.')
        for leftover in parts.glob('.*.partial-*'):
            leftover.unlink()
        yield parts


def _changes(before: dict, now: dict) -> List[str]:
    """Differences that make other features; a file may have been moved."""
    return [
        f'{name} {before.get(name)} instead of {value}'
        for name, value in now.items()
        if name != 'checkpoint' and before.get(name) != value
    ]


def _missing(index: FolderIndex, parts: Path) -> np.ndarray:
    """Positions of the images that no part has yet."""
    pa = pyarrow()
    done = set()
    for file in _files(parts):
        done.update(pa.parquet.read_table(
            file, columns=['path']).column(0).to_pylist())
    return np.array([
        position for position in range(len(index.ends))
        if not done or printable(path_at(index, position)) not in done
    ], dtype=np.int64)


def _files(parts: Path) -> List[Path]:
    return sorted(parts.glob('part-*.parquet'))


def _loader(dataset: ImageCrops, batch_size: int, num_workers: int):
    """Batches of names, crops ``(N, 3, H, W)`` and reasons of bad images."""
    return DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=min(num_workers, -(-len(dataset) // batch_size)),
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available())


def _collate(samples):
    good = [(name, crop) for name, crop, _ in samples if crop is not None]
    reasons = {name: why for name, crop, why in samples if crop is None}
    crops = torch.stack([crop for _, crop in good]) if good else torch.empty(0)
    return [name for name, _ in good], crops, reasons


def _bar(total: int, done: int, progress: bool):
    from tqdm import tqdm
    return tqdm(total=total, initial=done, unit='image', disable=not progress)


def _write_bad(destination: Path, bad: Dict[str, str]) -> None:
    path = destination.with_name(destination.name + '.bad.tsv')
    path.unlink(missing_ok=True)
    if bad:
        with whole(path) as temporary:
            temporary.write_text(
                ''.join(f'{name}\t{reason}\n' for name, reason in bad.items()))


def parse_arguments(
        argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/analysis_tools/extract_features.py``."""
    parser = argparse.ArgumentParser(
        description='Write one feature an image into a Parquet file with the '
        'columns path and feature. A run that was stopped goes on when started '
        'again. Unreadable images are listed in OUT.bad.tsv.')
    parser.add_argument('folder', metavar='FOLDER', help='images, at any depth')
    parser.add_argument('out', metavar='OUT', help='Parquet file to write')
    parser.add_argument(
        '--checkpoint', required=True,
        help='of mixedae_mm, mmpretrain, timm, Hugging Face or MAE')
    parser.add_argument('--pooling', choices=POOLINGS, default='mean',
                        help='mean of the patch tokens, or CLS')
    parser.add_argument('--img-size', type=int, metavar='PIXELS',
                        help='side of the crop (default: that of the training)')
    parser.add_argument('--batch-size', type=int, default=32)
    parser.add_argument('--workers', type=int, default=min(8, os.cpu_count() or 1),
                        help='processes that decode images')
    parser.add_argument('--device', help='default: the GPU if there is one')
    parser.add_argument('--amp', action='store_true', help='compute in bfloat16')
    parser.add_argument('--heads', type=int,
                        help='attention heads, where the checkpoint does not say')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace a finished OUT')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Extract as the command line says, and print a summary."""
    encoder = load(args.checkpoint, args.device, args.img_size, args.amp,
                   args.heads)
    print(f'{args.checkpoint}: {encoder.description}')
    done = extract_features(
        args.folder, args.out, encoder, args.pooling, args.batch_size,
        args.workers, args.overwrite)
    print(f'{args.out}: {done.num_images} images, {done.num_new} of them in this '
          f'run, {done.num_new / max(done.seconds, 1e-9):.1f} images/s')
    if done.bad:
        print(f'{len(done.bad)} unreadable images are listed in '
              f'{args.out}.bad.tsv')
