"""Features of every image below a folder, in one Parquet file.

The images, in natural order, are cut into parts of :data:`PART_SIZE`. Each part
is written whole into ``OUT.parts/``, and a part that is there is not computed
again: a run that is killed at any moment loses at most the part that it was
working on. The last step joins the parts.
"""
import argparse
import hashlib
import json
import os
import shutil
import time
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..datasets.channels import extensions_of
from ..datasets.decode import UnreadableImageError
from ..datasets.folder_index import FolderIndex, index_folder
from ..datasets.reading import read_file
from ..utils.arguments import device_name, non_negative_int, positive_int
from ..utils.checks import check_choice, check_count
from ..utils.errors import ConfigurationError
from ..utils.files import check_file, lock, write_atomically, write_json
from ..utils.preprocessing import Preprocessing
from ..utils.progress import progress_bar
from .encoder import POOLINGS, Encoder, decode_image, load
from .feature_table import merge, pyarrow, read_metadata, write_table

PART_SIZE = 1024  # images: what a kill can cost


class Summary(NamedTuple):
    """What a run of :func:`write_features` did.

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
        preprocessing (Preprocessing): Of the encoder.
        channels (int, optional): Of the images that the encoder takes; None for RGB.
    """

    def __init__(self, folder: Path, index: FolderIndex,
                 preprocessing: Preprocessing, channels: Optional[int] = None) -> None:
        self.folder = folder
        self.index = index
        self.preprocessing = preprocessing
        self.channels = channels

    def __len__(self) -> int:
        return len(self.index.ends)

    def __getitem__(self, position: int) -> Tuple[str, Optional[Tensor], str]:
        """Relative path, crop ``(C, H, W)`` or None, reason for None."""
        path = self.index.path(position)
        name = printable(path)
        try:
            data = read_file(str(self.folder / path))
            image = decode_image(data, name, self.channels)
            return name, self.preprocessing.crop(image), ''
        except (UnreadableImageError, OSError) as error:
            return name, None, str(error)


def write_features(folder: str,
                   out: str,
                   encoder: Encoder,
                   pooling: str = 'mean',
                   batch_size: int = 32,
                   num_workers: int = 2,
                   overwrite: bool = False,
                   progress: bool = True) -> Summary:
    """Write one feature per image into a Parquet file, or go on with it.

    The columns are ``path`` (relative to the folder) and ``feature`` (float32,
    as many as the encoder is wide). Unreadable images are not in it; they are
    listed in ``OUT.bad.tsv``. Memory does not grow with the number of images,
    except for their names.

    Args:
        folder (str): Searched at any depth.
        out (str): The file to write.
        encoder (Encoder): From :func:`mixedae_mm.load`.
        pooling (str): ``'mean'`` of the patch tokens, or ``'cls'``.
        batch_size (int): Images per batch, at least 1.
        num_workers (int): Processes that decode images; 0 decodes in this one.
        overwrite (bool): Replace a finished file.
        progress (bool): Show a progress bar.

    Returns:
        Summary: What was done.

    Raises:
        ConfigurationError: If the folder is missing or has no image that can be
            read, ``out`` is there, was begun with other settings or is being
            written, or pyarrow is not installed.
    """
    pyarrow()  # before hours of work
    check_choice('pooling', pooling, POOLINGS)
    check_count('batch_size', batch_size)
    check_count('num_workers', num_workers, at_least=0)
    destination = check_file(out, overwrite)
    source = Path(folder).expanduser()
    index = index_folder(str(source), extensions_of(encoder.channels))
    is_address = '://' in encoder.name
    settings = dict(
        checkpoint=encoder.name if is_address else os.path.abspath(
            os.path.expanduser(encoder.name)),
        fingerprint=encoder.fingerprint(),
        pooling=pooling,
        img_size=list(encoder.preprocessing.img_size),
        amp=encoder.amp,
        folder=str(source.absolute()))
    temporary = destination.with_name(destination.name + '.parts')
    temporary.mkdir(exist_ok=True)
    with lock(temporary / 'lock', f'Another process is writing {destination}.'):
        _check_settings(temporary / 'settings.json', settings)
        parts = parts_of(index, temporary)
        missing = {file: positions for file, positions in parts.items()
                   if not file.exists()}
        started = time.perf_counter()
        crops = ImageCrops(source, index, encoder.preprocessing, encoder.channels)
        num_new = _compute(missing, crops, encoder, pooling, batch_size, num_workers,
                           progress)
        seconds = time.perf_counter() - started
        bad: Dict[str, str] = {}
        for file in parts:
            bad.update(read_metadata(file)['bad'])
        num_images = len(index.ends) - len(bad)
        if num_images:
            merge(list(parts), destination, settings)
        shutil.rmtree(temporary)
    if not num_images:
        raise ConfigurationError(
            f'None of the {len(index.ends)} images below {folder} can be read; '
            f'the first: {next(iter(bad.values()))}')
    listed = destination.with_name(destination.name + '.bad.tsv')
    listed.unlink(missing_ok=True)
    if bad:
        write_atomically(listed, ''.join(
            f'{name}\t{reason}\n' for name, reason in bad.items()))
    return Summary(num_images, num_new, bad, seconds)


def parts_of(index: FolderIndex, folder: Path) -> Dict[Path, range]:
    """The file of each part, and which images of the index it is for.

    The names of a part's images are in the name of its file: after images were
    added or removed, parts that hold others than before are computed again.
    """
    parts = {}
    for start in range(0, len(index.ends), PART_SIZE):
        positions = range(start, min(start + PART_SIZE, len(index.ends)))
        names = os.fsencode('\0'.join(map(index.path, positions)))
        digest = hashlib.blake2b(names, digest_size=8).hexdigest()
        number = start // PART_SIZE
        parts[folder / f'part-{number:06d}-{digest}.parquet'] = positions
    return parts


def _compute(parts: Dict[Path, range], images: ImageCrops, encoder: Encoder,
             pooling: str, batch_size: int, num_workers: int, progress: bool) -> int:
    """Write parts; returns the number of images that could be read."""
    batches = {file: [list(positions[i:i + batch_size])
                      for i in range(0, len(positions), batch_size)]
               for file, positions in parts.items()}
    every = sum(batches.values(), [])
    loaded = iter(DataLoader(
        images, batch_sampler=every, num_workers=min(num_workers, len(every)),
        collate_fn=_collate, pin_memory=torch.cuda.is_available()))
    num_done = len(images) - sum(map(len, every))
    num_read = 0
    with progress_bar('features', len(images), num_done, progress) as advance:
        for file in parts:
            names: List[str] = []
            bad: Dict[str, str] = {}
            # A part whose images are all unreadable has a table as well.
            features = [torch.empty(0, encoder.description.encoder.width)]
            for batch in batches[file]:
                batch_names, crops, reasons = next(loaded)
                if batch_names:
                    features.append(encoder.pool(crops, pooling))
                names += batch_names
                bad.update(reasons)
                for reason in reasons.values():
                    print(reason)
                advance(len(batch))
            write_table(file, names, torch.cat(features), bad)
            num_read += len(names)
    return num_read


def _collate(samples):
    """Names, crops ``(N, 3, H, W)`` and the reasons of those without a crop."""
    good = [(name, crop) for name, crop, _ in samples if crop is not None]
    reasons = {name: why for name, crop, why in samples if crop is None}
    crops = torch.stack([crop for _, crop in good]) if good else torch.empty(0)
    return [name for name, _ in good], crops, reasons


def _check_settings(file: Path, settings: dict) -> None:
    """Remember what the parts are computed with; refuse other settings.

    The checkpoint may have been moved: its fingerprint counts.
    """
    before = json.loads(file.read_text()) if file.exists() else settings
    changed = [f'{name} {before.get(name)} instead of {value}'
               for name, value in settings.items()
               if name != 'checkpoint' and before.get(name) != value]
    if changed and any(file.parent.glob('part-*')):
        raise ConfigurationError(
            f'{file.parent} was begun with other settings ({"; ".join(changed)}); '
            'delete it or choose another output.')
    write_json(file, settings)


def printable(path: str) -> str:
    """A path as text, also where it is not UTF-8."""
    return os.fsencode(path).decode(errors='backslashreplace')


def parse_arguments(
        argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/analysis_tools/extract_features.py``."""
    parser = argparse.ArgumentParser(
        description='Write one feature per image into a Parquet file with the '
        'columns path and feature. A run that was stopped goes on when started '
        'again. Unreadable images are listed in OUT.bad.tsv.')
    parser.add_argument('folder', metavar='FOLDER', help='images, at any depth')
    parser.add_argument('out', metavar='OUT', help='Parquet file to write')
    parser.add_argument(
        '--checkpoint', required=True,
        help='of mixedae_mm, mmpretrain, timm, Hugging Face or MAE')
    parser.add_argument('--pooling', choices=POOLINGS, default='mean',
                        help='mean of the patch tokens, or CLS')
    parser.add_argument('--img-size', type=positive_int, metavar='PIXELS',
                        help='side of the crop (default: that of the training)')
    parser.add_argument('--batch-size', type=positive_int, default=32)
    parser.add_argument('--workers', type=non_negative_int,
                        default=min(8, os.cpu_count() or 1),
                        help='processes that decode images')
    parser.add_argument('--device', type=device_name,
                        help='default: the GPU if there is one')
    parser.add_argument('--amp', action='store_true', help='compute in bfloat16')
    parser.add_argument('--heads', type=positive_int,
                        help='attention heads, where the checkpoint does not say')
    parser.add_argument('--overwrite', action='store_true',
                        help='replace a finished OUT')
    return parser.parse_args(argv)


def run(args: argparse.Namespace) -> None:
    """Extract as the command line says, and print a summary."""
    pyarrow()
    encoder = load(args.checkpoint, args.device, args.img_size, args.amp,
                   args.heads)
    print(f'{args.checkpoint}: {encoder.description}')
    done = write_features(
        args.folder, args.out, encoder, args.pooling, args.batch_size,
        args.workers, args.overwrite)
    print(f'{args.out}: {done.num_images} images, {done.num_new} of them in this '
          f'run, {done.num_new / max(done.seconds, 1e-9):.1f} images/s')
    if done.bad:
        print(f'{len(done.bad)} unreadable images are listed in '
              f'{args.out}.bad.tsv')
