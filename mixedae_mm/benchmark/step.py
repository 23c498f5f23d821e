"""One training step of MixedAE against mmpretrain's MAE as it ships."""
import resource
from pathlib import Path
from typing import Callable, Dict, List

import mmpretrain
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import multiprocessing

from .compare import alternate, summarize, synchronize

MAE_CONFIG = (
    Path(mmpretrain.__file__).parent /
    '.mim/configs/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py')
PEER = 'mmpretrain MAE'


def training_step(config: Config, device: torch.device, batch_size: int,
                  compiled: bool) -> Callable[[], None]:
    """A function that does one whole step of a config on fixed images.

    Preprocessing, forward, backward and optimizer, as the runner does them;
    mixed precision on a GPU, float32 on a CPU (where mmengine has no other).
    """
    init_default_scope(config.get('default_scope', 'mmpretrain'))
    if config.model.get('data_preprocessor') is None:
        config.model.data_preprocessor = config.data_preprocessor
    model = MODELS.build(config.model).to(device)
    if compiled:
        model.backbone.compile()
        model.neck.compile()
    optim = config.optim_wrapper
    if device.type == 'cpu' and optim.type == 'AmpOptimWrapper':
        optim.type = 'OptimWrapper'
        optim.pop('loss_scale', None)
    optim_wrapper = build_optim_wrapper(model, optim)
    side = model.backbone.img_size[0]
    generator = torch.Generator().manual_seed(0)
    data = dict(
        inputs=torch.randint(
            0, 256, (batch_size, 3, side, side), dtype=torch.uint8,
            generator=generator),
        data_samples=[None] * batch_size)

    def step():
        model.train_step(data, optim_wrapper)

    return step


def contenders(config_path: str, device: torch.device, batch_size: int,
               compiled: bool) -> Dict[str, Callable[[], None]]:
    """The config's step, and that of mmpretrain's own MAE config."""
    ours = Config.fromfile(config_path)
    return {
        PEER:
        training_step(
            Config.fromfile(MAE_CONFIG), device, batch_size, compiled=False),
        Path(config_path).stem:
        training_step(ours, device, batch_size, compiled),
    }


def run(config_path: str, device: torch.device, batch_size: int, repeats: int,
        compiled: bool = False) -> List[dict]:
    """Time both by turns.

    Returns:
        list[dict]: Rows of :func:`~mixedae_mm.benchmark.compare.summarize`,
        plus ``images_per_s`` (clean images).
    """
    steps = contenders(config_path, device, batch_size, compiled)
    rows = summarize(alternate(steps, device, repeats=repeats), peer=PEER)
    for row in rows:
        row['images_per_s'] = batch_size / row['median_s']
    return rows


def run_memory(config_path: str, device: torch.device,
               batch_size: int) -> List[dict]:
    """Peak memory of two steps, each contender in a process of its own.

    Returns:
        list[dict]: ``name``, ``peak_mib`` (GPU: allocated; CPU: resident set
        above what the process held before the model was built), ``ratio``.
    """
    rows = []
    for config, name in ((MAE_CONFIG, PEER),
                         (config_path, Path(config_path).stem)):
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            peak = pool.apply(_peak_memory,
                              (str(config), str(device), batch_size))
        rows.append(dict(name=name, peak_mib=peak / 2**20))
    for row in rows:
        row['ratio'] = row['peak_mib'] / rows[0]['peak_mib']
    return rows


def _peak_memory(config_path: str, device_name: str, batch_size: int) -> int:
    import mixedae_mm  # noqa: F401  a fresh process registers anew
    device = torch.device(device_name)
    before = _max_resident_bytes()
    step = training_step(
        Config.fromfile(config_path), device, batch_size, compiled=False)
    for _ in range(2):  # the first one creates the optimizer's state
        step()
    synchronize(device)
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device)
    return _max_resident_bytes() - before


def _max_resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
