"""Starting on a large folder: our listing against mmpretrain's."""
import tempfile
from functools import partial
from pathlib import Path
from typing import Callable, Dict, List

import torch
from mmpretrain.datasets import CustomDataset

from mixedae_mm.datasets import UnlabelledImageFolder
from .compare import alternate, summarize

PEER = 'mmpretrain CustomDataset'


def make_tree(root: Path, num_images: int, num_folders: int = 1000) -> None:
    """Make empty files in ImageNet's layout; listing reads no image."""
    for index in range(num_folders):
        (root / f'n{index:08d}').mkdir()
    for index in range(num_images):
        (root / f'n{index % num_folders:08d}' / f'{index}.JPEG').touch()


def run(num_images: int, repeats: int) -> List[dict]:
    """Time by turns how long each data set takes until it knows its images.

    Returns:
        list[dict]: Rows of :func:`~benchmarks.compare.summarize`, plus
        ``images``, how many each has found.
    """
    found: Dict[str, int] = {}

    def listing(name: str, build: Callable) -> None:
        found[name] = len(build())

    with tempfile.TemporaryDirectory() as root:
        make_tree(Path(root), num_images)
        seconds = alternate({
            name: partial(listing, name, build) for name, build in {
                PEER: partial(CustomDataset, root, with_label=False),
                'UnlabelledImageFolder': partial(UnlabelledImageFolder, root),
            }.items()
        }, torch.device('cpu'), repeats)
    return [dict(row, images=found[row['name']])
            for row in summarize(seconds, PEER)]
