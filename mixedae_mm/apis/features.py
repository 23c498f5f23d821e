"""Features of every image below a folder, in one Parquet file.

The images, in natural order, are cut into shards of :data:`SHARD_SIZE`. Each shard is
written whole into ``OUT.parts/``, and one that is there is not computed again: a run
that is killed at any moment loses at most the shard that it was working on. The last
step joins the shards.
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
from ..utils.arguments import (device_name, non_negative_int, output_file,
                               positive_int)
from ..utils.checks import check_choice, check_count
from ..utils.errors import ConfigurationError
from ..utils.files import check_file, lock, write_atomically, write_json
from ..utils.machine import cpu_cores
from ..utils.progress import progress_bar
from .encoder import POOLINGS, Encoder, decode_image, load
from .feature_table import join, pyarrow, write_shard

SHARD_SIZE = 1024  # images: what a kill can cost


class Summary(NamedTuple):
    """What a run of :func:`write_features` did."""
    num_images: int  # rows of the result
    num_new: int  # of these, computed in this run
    bad: Dict[str, str]  # unreadable images, with the reason
    seconds: float  # that this run took to compute its images


class ImageCrops(Dataset):
    """Images of a folder, cropped for an encoder: name, ``(C, H, W)`` or reason."""

    def __init__(self, folder: Path, index: FolderIndex, encoder: Encoder) -> None:
        self.folder = folder
        self.index = index
        self.crop = encoder.preprocessing.crop
        self.channels = encoder.channels

    def __len__(self) -> int:
        return len(self.index.ends)

    def __getitem__(self, position: int) -> Tuple[str, Optional[Tensor], Optional[str]]:
        path = self.index.path(position)
        # As text, also where it is not UTF-8.
        name = os.fsencode(path).decode(errors='backslashreplace')
        try:
            data = read_file(str(self.folder / path))
            return name, self.crop(decode_image(data, name, self.channels)), None
        except (UnreadableImageError, OSError) as error:
            return name, None, str(error)

    @staticmethod
    def collate(samples: list) -> Tuple[Sequence[str], Tensor, Sequence[Optional[str]]]:
        """Names, crops ``(N, C, H, W)`` of the good ones, and reasons of the others."""
        names, crops, reasons = zip(*samples)
        good = [crop for crop in crops if crop is not None]
        return names, torch.stack(good) if good else torch.empty(0), reasons


def write_features(folder: str,
                   out: str,
                   encoder: Encoder,
                   pooling: str = 'mean',
                   batch_size: int = 32,
                   num_workers: int = 2,
                   overwrite: bool = False,
                   progress: bool = True) -> Summary:
    """Write one feature per image into a Parquet file, or go on with it.

    The columns are ``path`` (relative to the folder) and ``feature`` (float32, as many
    as the encoder is wide). Unreadable images are not in it; they are listed in
    ``OUT.bad.tsv``. Memory grows only with the names of the images.

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
        ConfigurationError: If the folder is missing or has no image that can be read,
            ``out`` is there, was begun with other settings or is being written,
            pyarrow is not installed, or for another pooling, or a ``batch_size`` or
            ``num_workers`` that is too small.
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
        shards = shards_of(index, temporary)
        missing = {file: rows for file, rows in shards.items() if not file.exists()}
        started = time.perf_counter()
        num_new = _compute(missing, ImageCrops(source, index, encoder), encoder,
                           pooling, batch_size, num_workers, progress)
        seconds = time.perf_counter() - started
        bad = join(list(shards), destination, settings)
        shutil.rmtree(temporary)
    num_images = len(index.ends) - len(bad)
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


def shards_of(index: FolderIndex, folder: Path) -> Dict[Path, range]:
    """The file of each shard, and which images of the index it is for.

    The names of a shard's images are in the name of its file: after images were
    added or removed, shards that hold others than before are computed again.
    """
    shards = {}
    for start in range(0, len(index.ends), SHARD_SIZE):
        rows = range(start, min(start + SHARD_SIZE, len(index.ends)))
        names = os.fsencode('\0'.join(map(index.path, rows)))
        digest = hashlib.blake2b(names, digest_size=8).hexdigest()
        number = start // SHARD_SIZE
        shards[folder / f'shard-{number:06d}-{digest}.parquet'] = rows
    return shards


def _compute(shards: Dict[Path, range], images: ImageCrops, encoder: Encoder,
             pooling: str, batch_size: int, num_workers: int, progress: bool) -> int:
    """Write shards; returns the number of images that could be read."""
    batches = {file: [list(rows[i:i + batch_size])
                      for i in range(0, len(rows), batch_size)]
               for file, rows in shards.items()}
    every = sum(batches.values(), [])
    loaded = iter(DataLoader(
        images, batch_sampler=every, num_workers=min(num_workers, len(every)),
        collate_fn=images.collate, pin_memory=torch.cuda.is_available()))
    num_done = len(images) - sum(map(len, every))
    num_new = 0
    with progress_bar('features', len(images), num_done, progress) as advance:
        for file, rows in shards.items():
            features = torch.zeros(len(rows), encoder.description.encoder.width)
            names: List[str] = []
            reasons: List[Optional[str]] = []
            for batch in batches[file]:
                batch_names, crops, batch_reasons = next(loaded)
                good = [len(names) + i for i, reason in enumerate(batch_reasons)
                        if reason is None]
                if good:
                    features[good] = encoder.pool(crops, pooling)
                names += batch_names
                reasons += batch_reasons
                num_new += len(good)
                for reason in filter(None, batch_reasons):
                    print(reason)
                advance(len(batch))
            write_shard(file, names, features, reasons)
    return num_new


def _check_settings(file: Path, settings: dict) -> None:
    """Remember what the shards are computed with; refuse other settings."""
    before = json.loads(file.read_text()) if file.exists() else settings
    # The checkpoint may have been moved: its fingerprint counts.
    changed = [f'{name} {before.get(name)} instead of {value}'
               for name, value in settings.items()
               if name != 'checkpoint' and before.get(name) != value]
    if changed and any(file.parent.glob('shard-*')):
        raise ConfigurationError(
            f'{file.parent} was begun with other settings ({"; ".join(changed)}); '
            'delete it or choose another output.')
    write_json(file, settings)


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    """The command line of ``tools/analysis_tools/extract_features.py``."""
    parser = argparse.ArgumentParser(
        description='Write one feature per image into a Parquet file with the '
        'columns path and feature. A run that was stopped goes on when started '
        'again. Unreadable images are listed in OUT.bad.tsv.')
    parser.add_argument('folder', metavar='FOLDER', help='images, at any depth')
    parser.add_argument('out', metavar='OUT', type=output_file(),
                        help='Parquet file to write')
    parser.add_argument(
        '--checkpoint', required=True,
        help='of mixedae_mm, mmpretrain, timm, Hugging Face or MAE')
    parser.add_argument('--pooling', choices=POOLINGS, default='mean',
                        help='mean of the patch tokens, or CLS')
    parser.add_argument('--img-size', type=positive_int, metavar='PIXELS',
                        help='side of the crop (default: that of the training)')
    parser.add_argument('--batch-size', type=positive_int, default=32)
    parser.add_argument('--workers', type=non_negative_int,
                        default=min(8, cpu_cores()),
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
