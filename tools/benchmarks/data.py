"""Reading images: our pipeline and listing against mmpretrain's."""
import tempfile
from functools import partial
from pathlib import Path
from typing import Dict, List

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from mmpretrain.datasets import CustomDataset
from PIL import Image

from mixedae_mm.datasets import UnlabelledImageFolder
from .compare import alternate, summarize
from .step import MAE_CONFIG

PEER = 'mmpretrain MAE pipeline'
SIZES = ((500, 375), (2000, 1500))
LISTING_PEER = 'mmpretrain CustomDataset'
CPU = torch.device('cpu')


def write_photographs(folder: str, size, count: int) -> List[str]:
    """Write JPEGs (quality 90) of real pixels: skimage's photographs, resized."""
    from skimage import data
    names = ('astronaut', 'chelsea', 'coffee', 'rocket')
    paths = [f'{folder}/{i}.jpg' for i in range(count)]
    for i, path in enumerate(paths):
        photograph = Image.fromarray(
            np.ascontiguousarray(getattr(data, names[i % len(names)])()))
        photograph.resize(size, Image.BICUBIC).save(path, quality=90)
    return paths


def loading(config_path: str, repeats: int, count: int = 16) -> List[dict]:
    """Time the loading of ``count`` images of each size, on one thread."""
    init_default_scope('mmpretrain')
    pipelines = {name: Compose(Config.fromfile(path).train_pipeline)
                 for name, path in ((PEER, MAE_CONFIG), ('ours', config_path))}
    threads, rows = torch.get_num_threads(), []
    torch.set_num_threads(1)
    try:
        for width, height in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                paths = write_photographs(folder, (width, height), count)
                found = summarize(alternate({
                    name: partial(_load, pipeline, paths)
                    for name, pipeline in pipelines.items()}, CPU, repeats), PEER)
            rows += [
                dict(row, name=f'{row["name"]}, {width} x {height}',
                     images_per_s=count / row['median_s'], speedup=1 / row['ratio'])
                for row in found]
    finally:
        torch.set_num_threads(threads)
    return rows


def _load(pipeline: Compose, paths: List[str]) -> None:
    for path in paths:
        pipeline(dict(img_path=path))


def listing(num_images: int, repeats: int, num_folders: int = 1000) -> List[dict]:
    """Time how long each data set takes until it knows its ``images``."""
    found: Dict[str, int] = {}
    with tempfile.TemporaryDirectory() as root:
        # Empty files in ImageNet's layout: listing reads no image.
        for index in range(num_folders):
            Path(root, f'n{index:08d}').mkdir()
        for index in range(num_images):
            Path(root, f'n{index % num_folders:08d}', f'{index}.JPEG').touch()
        seconds = alternate({
            LISTING_PEER: lambda: found.update(
                {LISTING_PEER: len(CustomDataset(root, with_label=False))}),
            'UnlabelledImageFolder': lambda: found.update(
                UnlabelledImageFolder=len(UnlabelledImageFolder(root))),
        }, CPU, repeats)
    return [dict(row, images=found[row['name']])
            for row in summarize(seconds, LISTING_PEER)]
