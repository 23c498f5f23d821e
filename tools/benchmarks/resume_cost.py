"""The cost of exact resume: short runs of the demo's network, with and without it."""
import statistics
import tempfile
import time
from pathlib import Path
from typing import Callable, Dict, List

import numpy as np
from mmengine.config import Config
from PIL import Image

from mixedae_mm.launch.entry import build_runner
from mixedae_mm.utils.config_names import mim_folder
from .compare import with_ratios

CONFIG = 'configs/demo/mixedae_vit-tiny_demo.py'
WITHOUT, WITH = 'without', 'with exact resume'
STEPS, WARMUP = 60, 20  # of each run; the first ones are not measured


def run(repeats: int) -> List[dict]:
    """Time ``repeats`` runs of each kind by turns.

    ``hook_us`` is what the hook itself takes per step, ``ratio`` that of the steps.
    """
    found: Dict[str, List[dict]] = {WITHOUT: [], WITH: []}
    with tempfile.TemporaryDirectory() as folder:
        random, images = np.random.default_rng(0), Path(folder, 'images')
        images.mkdir()
        for number in range(512):
            pixels = random.integers(0, 256, (40, 40, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(images / f'{number}.png')
        for turn in range(repeats):
            for name, times in found.items():
                times.append(_time(name == WITH, folder, f'{name}{turn}'))
    return with_ratios([
        dict(name=name, **{key: statistics.median(time[key] for time in times)
                           for key in ('step_ms', 'hook_us')})
        for name, times in found.items()], 'step_ms')


def _time(with_resume: bool, folder: str, name: str) -> dict:
    cfg = Config.fromfile(mim_folder() / CONFIG)
    cfg.merge_from_dict(dict(
        work_dir=f'{folder}/{name}', experiment_name=name, launcher='none',
        log_level='ERROR', visualizer=None, train_cfg=dict(max_iters=STEPS),
        train_dataloader=dict(dataset=dict(data_root=f'{folder}/images'))))
    cfg.default_hooks.checkpoint = None
    cfg.custom_hooks = [dict(type='ExactResumeHook')] if with_resume else []
    runner = build_runner(cfg)
    seconds: List[float] = []
    for hook in runner.hooks:
        if type(hook).__name__ == 'ExactResumeHook':
            for method in ('before_train_iter', 'after_train_iter'):
                setattr(hook, method, _timed(getattr(hook, method), seconds))
    runner.train()
    steps = runner.message_hub.get_scalar('train/time').data[0][WARMUP:]
    return dict(step_ms=1e3 * float(np.median(steps)),
                hook_us=1e6 * sum(seconds) / STEPS)


def _timed(function: Callable, seconds: List[float]) -> Callable:

    def timed(*args, **kwargs) -> None:
        since = time.perf_counter()
        function(*args, **kwargs)
        seconds.append(time.perf_counter() - since)

    return timed
