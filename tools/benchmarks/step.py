"""One training step of MixedAE against mmpretrain's MAE as it ships."""
from pathlib import Path
from typing import Callable, Dict, List

import mmpretrain
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope

from .compare import alternate, in_own_process, peak_memory, summarize, with_ratios
from .cost import gpu_days

MAE_CONFIG = (
    Path(mmpretrain.__file__).parent /
    '.mim/configs/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py')
PEER = 'mmpretrain MAE'


def training_step(config: Config, device: torch.device, batch_size: int,
                  compiled: bool) -> Callable[[], None]:
    """Return a function that does one whole step of a config on fixed images.

    That is preprocessing, forward, backward and optimizer, as the runner does
    them: in mixed precision on a GPU, in float32 on a CPU (where mmengine has no
    mixed precision).
    """
    init_default_scope(config.get('default_scope', 'mmpretrain'))
    if config.model.get('data_preprocessor') is None:
        config.model.data_preprocessor = config.data_preprocessor
    model = MODELS.build(config.model).to(device)
    if compiled:  # as CompileHook does
        model.loss = torch.compile(model.loss, dynamic=False)
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
    """Steps of mmpretrain's own MAE config and of ours, on request compiled too."""
    name = Path(config_path).stem
    steps = {PEER: (MAE_CONFIG, False), name: (config_path, False)}
    if compiled:
        steps[f'{name}, compiled'] = (config_path, True)
    return {
        name: training_step(Config.fromfile(path), device, batch_size, compiled)
        for name, (path, compiled) in steps.items()
    }


def run(config_path: str, device: torch.device, batch_size: int, repeats: int,
        compiled: bool = False) -> List[dict]:
    """Time all contenders by turns.

    Returns:
        list[dict]: Rows of :func:`~benchmarks.compare.summarize`,
        plus ``images_per_s`` (clean images) and ``device_days`` of the
        config's schedule on ImageNet at that speed.
    """
    steps = contenders(config_path, device, batch_size, compiled)
    rows = summarize(alternate(steps, device, repeats=repeats), peer=PEER)
    config = Config.fromfile(config_path)
    for row in rows:
        row['images_per_s'] = batch_size / row['median_s']
        row['device_days'] = gpu_days(config, row['images_per_s'])
    return rows


def run_memory(config_path: str, device: torch.device,
               batch_size: int) -> List[dict]:
    """Measure the peak memory of two steps, each contender in its own process.

    Returns:
        list[dict]: ``name``, ``peak_mib`` (GPU: allocated; CPU: resident set
        above what the process held before the model was built), ``ratio``.
    """
    rows = []
    for config, name in ((MAE_CONFIG, PEER),
                         (config_path, Path(config_path).stem)):
        peak = in_own_process(_peak_memory, str(config), str(device),
                              batch_size)
        rows.append(dict(name=name, peak_mib=peak / 2**20))
    return with_ratios(rows, 'peak_mib')


def _peak_memory(config_path: str, device_name: str, batch_size: int) -> int:
    import mixedae_mm  # noqa: F401  a fresh process registers anew
    device = torch.device(device_name)

    def build_and_train():
        step = training_step(
            Config.fromfile(config_path), device, batch_size, compiled=False)
        for _ in range(2):  # the first one creates the optimizer's state
            step()

    return peak_memory(build_and_train, device)
