"""Starting on a large folder: our listing against mmpretrain's."""
import tempfile
import time
from pathlib import Path
from typing import List

from mmpretrain.datasets import CustomDataset

from mixedae_mm.datasets import UnlabelledImageFolder
from .compare import with_ratios

PEER = 'mmpretrain CustomDataset'


def make_tree(root: Path, num_images: int, num_folders: int = 1000) -> None:
    """Empty files in ImageNet's layout; listing reads no image."""
    for index in range(num_folders):
        (root / f'n{index:08d}').mkdir()
    for index in range(num_images):
        (root / f'n{index % num_folders:08d}' / f'{index}.JPEG').touch()


def run(num_images: int) -> List[dict]:
    """Seconds until the data set knows its images.

    The second time is what every further process and every resume takes.

    Returns:
        list[dict]: ``name``, ``images``, ``first_s``, ``again_s``, ``ratio``
        (of ``first_s``) and ``ratio_again``.
    """
    with tempfile.TemporaryDirectory() as root:
        make_tree(Path(root), num_images)
        datasets = {
            PEER:
            lambda: CustomDataset(root, with_label=False),
            'UnlabelledImageFolder':
            lambda: UnlabelledImageFolder(data_root=root, pipeline=[]),
        }
        rows = []
        for name, build in datasets.items():
            row: dict = dict(name=name)
            for key in ('first_s', 'again_s'):
                start = time.perf_counter()
                row['images'] = len(build())
                row[key] = time.perf_counter() - start
            rows.append(row)
    for row in with_ratios(rows, 'first_s'):
        row['ratio_again'] = row['again_s'] / rows[0]['again_s']
    return rows
