"""One training step of MixedAE against mmpretrain's MAE, as it ships and compiled."""
import copy
import itertools
import statistics
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple

import mmpretrain
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from mixedae_mm.engine.hooks.compile_hook import OLDEST_PYTORCH, CompileHook
from mixedae_mm.engine.optimizers.parameter_groups import without_lines_per_parameter
from mixedae_mm.config.tree import type_name
from mixedae_mm.launch.device import adapt_to_cpu, choose_precision
from mixedae_mm.models.vit_sizes import ARCHES
from mixedae_mm.utils.config_names import mim_folder
from mixedae_mm.utils.machine import has_recent_gpu, pytorch_is
from .compare import alternate, peak_memory, repeated, summarize
from .cost import gpu_days
from .counting import count_operators, profile_kernels

MAE_CONFIG = (
    Path(mmpretrain.__file__).parent /
    '.mim/configs/mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py')
PEER = 'mmpretrain MAE'
# A GPU is measured in 8 minutes: no contender is compiled after this many seconds.
LAST_START_S = 330
SMALL_CONFIG = 'configs/demo/mixedae_vit-tiny_demo.py'
SMALL_ARCH = dict(
    embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768)
SMALL_BATCH = 128


class Contender(NamedTuple):
    """What is measured in one row."""
    config: Config  # model and optimizer
    compiling: Optional[dict] = None  # arguments of CompileHook; None for eager
    adapt: Optional[Callable[[nn.Module], None]] = None  # changes the built model


def copied(images: Tensor, device: torch.device) -> Iterator[Tensor]:
    """Give the same images to every step, copied while the step before runs.

    They lie in pinned memory, as a data loader leaves them.
    """
    if device.type != 'cuda':
        yield from itertools.repeat(images)
    pinned, stream = images.pin_memory(), torch.cuda.Stream(device)
    current = torch.cuda.current_stream(device)

    def copy_ahead() -> Tensor:
        with torch.cuda.stream(stream):
            return pinned.to(device, non_blocking=True)

    following = copy_ahead()
    while True:
        current.wait_stream(stream)
        images, following = following, copy_ahead()
        images.record_stream(current)
        yield images


class Step:
    """A whole training step of a contender: preprocessing, forward, backward, update.

    It is the runner's: in mixed precision on a GPU, in float32 on a CPU (where
    mmengine has no mixed precision).
    """

    def __init__(self, contender: Contender, device: torch.device,
                 batch_size: int) -> None:
        config = contender.config
        config.launcher = 'none'
        if device.type == 'cpu':
            adapt_to_cpu(config)
        init_default_scope(config.get('default_scope', 'mmpretrain'))
        if config.model.get('data_preprocessor') is None:
            config.model.data_preprocessor = config.data_preprocessor
        model = MODELS.build(config.model)
        if contender.adapt is not None:
            contender.adapt(model)
        self.model = model.to(device)
        with without_lines_per_parameter():
            self.optim_wrapper = build_optim_wrapper(model, config.optim_wrapper)
        side = model.backbone.img_size[0]
        self.images = copied(
            torch.randint(0, 256, (batch_size, 3, side, side), dtype=torch.uint8,
                          generator=torch.Generator().manual_seed(0)), device)
        self.batch_size = batch_size
        self.peak_mib: Optional[float] = None  # on a GPU, once it is measured
        self.hook = CompileHook(enabled=False)
        self.groups = len(self.optim_wrapper.optimizer.param_groups)
        # Before compiling: operators of a compiled graph are not dispatched.
        self.operators, self.flops = count_operators(self)
        if contender.compiling is not None:
            self.hook = CompileHook(**dict(contender.compiling, enabled=True))
            self.hook.before_train(SimpleNamespace(model=model))

    def __call__(self) -> None:
        self.hook.before_train_iter(None, 0)
        self.model.train_step(
            dict(inputs=next(self.images), data_samples=[None] * self.batch_size),
            self.optim_wrapper)


def ours(config_path, **optim_wrapper) -> Config:
    """Our config as the train command adapts it to a GPU."""
    config = Config.fromfile(config_path)
    config.optim_wrapper.update(optim_wrapper)
    choose_precision(config)
    return config


def peer(config: Config) -> Config:
    """mmpretrain's MAE config, with the sizes of ours where they are others."""
    mae, backbone = Config.fromfile(MAE_CONFIG), config.model.backbone
    arch, neck = backbone.arch, config.model.get('neck') or {}
    sizes = ARCHES[arch] if isinstance(arch, str) else arch
    side, patch_size = backbone.get('img_size', 224), backbone.get('patch_size', 16)
    mae.model.backbone.update(arch=sizes, img_size=side, patch_size=patch_size)
    mae.model.neck.update(
        embed_dim=sizes['embed_dims'], patch_size=patch_size,
        num_patches=(side // patch_size)**2,
        **{key: neck[key] for key in (
            'decoder_embed_dim', 'decoder_depth', 'decoder_num_heads')
           if key in neck})
    mae.model.head.patch_size = patch_size
    return mae


def use_timm_blocks(model: nn.Module) -> None:
    """Replace the Transformer layers of mmpretrain's MAE by timm's."""
    from timm.models.vision_transformer import Block

    def blocks(layers: nn.ModuleList) -> nn.ModuleList:
        return nn.ModuleList(
            Block(layer.embed_dims, layer.attn.num_heads, qkv_bias=True,
                  mlp_ratio=layer.ffn.feedforward_channels / layer.embed_dims)
            for layer in layers)

    model.backbone.layers = blocks(model.backbone.layers)
    model.neck.decoder_blocks = blocks(model.neck.decoder_blocks)


def contenders(config_path, compiled: bool) -> Dict[str, Contender]:
    """MAE as mmpretrain ships it, and ours; the compiled ones if asked for.

    The row with the bare name of the config is ours as the train command runs it.
    """
    name, config = Path(config_path).stem, ours(config_path)
    single = ours(config_path, constructor='DefaultOptimWrapperConstructor')
    found = {
        PEER: Contender(peer(config)),
        f'{name}, eager, a group per parameter': Contender(single)}
    if not compiled:
        return {**found, name: Contender(config)}
    options = dict(next((hook for hook in config.get('custom_hooks') or ()
                         if type_name(hook) == 'CompileHook'), {}))
    options.pop('type', None)
    alike = peer(config)
    alike.optim_wrapper = config.optim_wrapper.copy()
    return {
        **found,
        f'{name}, eager': Contender(ours(config_path)),
        name: Contender(config, options),
        f'{PEER}, compiled as ours': Contender(alike, options),
        "MAE of timm's blocks, compiled": Contender(
            copy.deepcopy(alike), options, use_timm_blocks)}


def small_contenders(compiled: bool) -> Dict[str, Contender]:
    """A model of little work per launch: 12 layers x 192 on 64 x 64 pixels."""

    def small(**compiling) -> Contender:
        config = ours(mim_folder() / SMALL_CONFIG)
        config.model.backbone.arch = dict(SMALL_ARCH)
        return Contender(config, compiling or None)

    found = {'small, eager': small()}
    if compiled:
        found['small, compiled'] = small(dynamic=False)
        found['small, compiled, CUDA graphs'] = small(mode='reduce-overhead')
    return found


def build(given: Dict[str, Contender], device: torch.device, batch_size: int,
          last_start: float) -> Tuple[Dict[str, Step], Dict[str, str]]:
    """Build and warm up the steps, which compiles them; and why some are left out."""
    steps: Dict[str, Step] = {}
    left_out, on_gpu = {}, device.type == 'cuda'
    for name, contender in given.items():
        since = time.monotonic()
        if on_gpu and since > last_start:
            left_out[name] = f'the {LAST_START_S} s for preparing were over'
            continue
        before = torch.cuda.memory_allocated(device) if on_gpu else 0
        try:
            step = steps[name] = Step(contender, device, batch_size)
        except ModuleNotFoundError as error:
            left_out[name] = f'{error.name} is not installed'
            continue
        if on_gpu:
            for _ in range(3):  # CUDA graphs are recorded in the second
                step()
            held = torch.cuda.memory_allocated(device) - before
            step.peak_mib = (held + peak_memory(step, device)) / 2**20
            if contender.compiling is not None and not step.hook.is_compiled:
                left_out[name] = 'it could not be compiled'
                del steps[name], step  # for its memory
                continue
        print(f'{name}: ready after {time.monotonic() - since:.0f} s', flush=True)
    return steps, left_out


def time_steps(steps: Dict[str, Step], device: torch.device, repeats: int,
               per_turn: int) -> List[dict]:
    """Time steps by turns, on a GPU several back to back, and profile them."""
    on_gpu = device.type == 'cuda'
    per_turn = per_turn if on_gpu else 1
    turns = {name: repeated(step, per_turn) for name, step in steps.items()}
    seconds = {name: [second / per_turn for second in found]
               for name, found in alternate(turns, device, repeats).items()}
    rows = summarize(seconds, peer=next(iter(steps))) if steps else []
    for row in rows:
        step = steps[row['name']]
        if on_gpu:
            row.update(profile_kernels(turns[row['name']], per_turn))
            row['kernel_share'] = row['kernels_s'] / row['median_s']
        row.update(groups=step.groups, operators=step.operators)
    return rows


def product_rate(device: torch.device, repeats: int = 7) -> float:
    """FLOP/s of large matrix products, in bfloat16 on a GPU."""
    on_gpu = device.type == 'cuda'
    side, dtype = (8192, torch.bfloat16) if on_gpu else (1024, torch.float32)
    left, right = torch.randn(2, side, side, device=device).to(dtype)
    products = repeated(lambda: left @ right, 10)
    seconds = alternate(dict(products=products), device, repeats)['products']
    return 10 * 2 * side**3 / statistics.median(seconds)


def run(config_path, device: torch.device, batch_size: int, repeats: int,
        compiled: bool = False) -> dict:
    """Time all contenders by turns, compiled on a recent GPU or if asked for.

    The columns of ``rows``, and of ``small``, a small model, are explained in
    ``templates/speed.md.jinja``; ``left_out`` has reasons by contender.
    """
    compiled = compiled or (device.type == 'cuda' and has_recent_gpu()
                            and pytorch_is(OLDEST_PYTORCH))
    last_start = time.monotonic() + LAST_START_S
    rate = product_rate(device)  # first: it takes the memory of the library, too
    small_steps, small_left_out = build(
        small_contenders(compiled), device, SMALL_BATCH, last_start)
    small = [dict(row, steps_per_s=1 / row['median_s'])
             for row in time_steps(small_steps, device, repeats, per_turn=20)]
    del small_steps
    torch.compiler.reset()
    config = Config.fromfile(config_path)
    steps, left_out = build(
        contenders(config_path, compiled), device, batch_size, last_start)
    rows = time_steps(steps, device, repeats, per_turn=5)
    for row in rows:
        step = steps[row['name']]
        row['of_products'] = step.flops / row['median_s'] / rate
        if step.peak_mib is not None:
            row['peak_mib'] = step.peak_mib
        row['images_per_s'] = batch_size / row['median_s']
        if 'max_epochs' in config.train_cfg:
            row['device_days'] = gpu_days(config, row['images_per_s'])
    return dict(rows=rows, small=small, product_flops_per_s=rate,
                left_out={**left_out, **small_left_out})
