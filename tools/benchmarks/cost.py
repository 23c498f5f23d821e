"""From a measured throughput to the cost of a schedule."""
import json
from pathlib import Path
from typing import Iterable, List

from mmengine.config import Config

from mixedae_mm.utils.tables import markdown_table

IMAGENET_IMAGES = 1281167

# GPU-days of the paper (Table 1 and Table 3a), on V100.
PAPER_V100_GPU_DAYS = {
    'mixedae_vitb_300e': 16.9,
    'mixedae_vitb_800e': 45.0,
    'mixedae_vitb_1600e': 90.1,
    'mixedae_full_light_vitb_300e': 30.8,
    'mixedae_full_vitb_300e': 62.3,
    'mae_vitb_300e': 16.4,
    'mae_vitb_800e': 43.7,
    'mae_vitb_1600e': 87.4,
}


def gpu_days(config: Config, images_per_s: float,
             num_images: int = IMAGENET_IMAGES) -> float:
    """Return the device-days of a schedule of epochs, at clean images per second."""
    return config.train_cfg.max_epochs * num_images / images_per_s / (24 * 3600)


# Images -> epochs of a first try; those of ImageNet are the paper's shortest run.
FIRST_TRIES = {3_000: 1600, 30_000: 800, 300_000: 300, IMAGENET_IMAGES: 300}
PLAN_HEADER = ['images', 'epochs', 'steps per epoch', 'steps', 'images seen',
               'memory', 'one GPU', 'CPU']


def plan(measurements: Path, images: Iterable[int] = FIRST_TRIES) -> str:
    """What pre-training ViT-B/16 at 224 x 224 costs, as a table in Markdown.

    Steps are those of the batch that was measured on a GPU (in ``step-*.json`` and
    ``memory-cuda.json``), without the last incomplete one.
    """
    gpu, cpu, memory = (json.loads((measurements / f'{name}.json').read_text())
                        for name in ('step-cuda', 'step-cpu', 'memory-cuda'))
    batch = gpu['batch_size']
    ours = {name: next(row for row in content['rows'] if row['name'] == gpu['config'])
            for name, content in dict(gpu=gpu, cpu=cpu, memory=memory).items()}
    rows: List[List[str]] = []
    for number in images:
        # Of the first size that is not smaller.
        epochs = next((tried for size, tried in FIRST_TRIES.items()
                       if number <= size), 300)
        per_epoch = max(1, number // batch)
        steps = per_epoch * epochs
        rows.append([
            f'{number:,}', str(epochs), f'{per_epoch:,}', f'{steps:,}',
            f'{steps * batch / 1e6:.1f} million',
            f'{ours["memory"]["peak_mib"] / 1024:.1f} GiB',
            f'{steps * ours["gpu"]["median_s"] / 3600:.1f} h',
            f'{steps * batch / ours["cpu"]["images_per_s"] / 86400:.0f} days'])
    return markdown_table(PLAN_HEADER, rows, numbers=True)
