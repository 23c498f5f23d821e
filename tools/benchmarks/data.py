"""Loading images: our pipeline against mmpretrain's for MAE, one core."""
import tempfile
from pathlib import Path
from typing import Dict, List

import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, init_default_scope
from PIL import Image

from .compare import alternate, summarize
from .step import MAE_CONFIG

PEER = 'mmpretrain MAE pipeline'
SIZES = ((500, 375), (2000, 1500))


def write_photographs(folder: Path, size, count: int) -> List[str]:
    """Write JPEGs (quality 90) of real pixels: skimage's photographs, resized."""
    from skimage import data
    names = ('astronaut', 'chelsea', 'coffee', 'rocket')
    paths = []
    for i in range(count):
        photograph = Image.fromarray(
            np.ascontiguousarray(getattr(data, names[i % len(names)])()))
        path = folder / f'{i}.jpg'
        photograph.resize(size, Image.BICUBIC).save(path, quality=90)
        paths.append(str(path))
    return paths


def run(config_path: str, repeats: int, count: int = 16) -> List[dict]:
    """Time the loading of images in this process with one thread.

    Args:
        config_path (str): A pre-training config with a ``train_pipeline``.
        repeats (int): Rounds over the images.
        count (int): Images of each size.

    Returns:
        list[dict]: Rows of :func:`~benchmarks.compare.summarize`
        plus ``images_per_s`` and ``speedup``.
    """
    init_default_scope('mmpretrain')
    pipelines: Dict[str, list] = {
        PEER: Config.fromfile(MAE_CONFIG).train_pipeline,
        'ours': Config.fromfile(config_path).train_pipeline,
    }
    built = {
        name: [TRANSFORMS.build(transform) for transform in pipeline]
        for name, pipeline in pipelines.items()
    }
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    rows = []
    try:
        for size in SIZES:
            with tempfile.TemporaryDirectory() as folder:
                paths = write_photographs(Path(folder), size, count)
                rows += _run_size(built, paths, size, repeats)
    finally:
        torch.set_num_threads(threads)
    return rows


def _run_size(built, paths, size, repeats) -> List[dict]:

    def loader(transforms):

        def load():
            for path in paths:
                results = dict(img_path=path)
                for transform in transforms:
                    results = transform(results)

        return load

    seconds = alternate(
        {name: loader(transforms) for name, transforms in built.items()},
        torch.device('cpu'), repeats=repeats)
    rows = summarize(seconds, peer=PEER)
    for row in rows:
        row['name'] += f', {size[0]} x {size[1]}'
        row['images_per_s'] = len(paths) / row['median_s']
        row['speedup'] = 1 / row['ratio']
    return rows
