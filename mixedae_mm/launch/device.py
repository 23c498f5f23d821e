"""Adapt a config to the device: mixed precision of a GPU, or a CPU without GPU."""

import datetime
import os
import subprocess
from typing import Any, Dict, List, Optional

import torch
from mmengine.config import Config, ConfigDict

from ..config.tree import scope_of, type_name, walk
from ..utils.machine import has_recent_gpu, pytorch_is
from .checks import LAUNCHER_VARIABLES


def choose_precision(cfg: Config) -> Optional[str]:
    """Choose, in place, the type of mixed precision that the GPU is made for.

    Where ``AmpOptimWrapper`` has no ``dtype``, a GPU of compute capability 8.0 or
    newer computes in bfloat16. Its range is that of float32, so that the loss needs
    no scaling: mmengine would scale it all the same. Detectors stay in float16: boxes
    in bfloat16 would be rounded to 4 pixels, and mmcv's RoIAlign refuses it.

    Returns:
        One sentence about mixed precision, to be logged; None for a run without it.
    """
    optim_wrapper = cfg.get('optim_wrapper')
    if optim_wrapper is None or type_name(optim_wrapper) != 'AmpOptimWrapper':
        return None
    if optim_wrapper.get('dtype') is not None:
        return f'Mixed precision: {optim_wrapper.dtype}, as optim_wrapper.dtype says.'
    parts = [node for _, node in walk(dict(model=cfg.get('model')))
             if isinstance(node, dict)]
    if 'mmdet' in (scope_of(cfg), *(scope_of(dict(model=part)) for part in parts)):
        return ('Mixed precision: float16, as for every model with parts of mmdet: '
                "mmcv's RoIAlign has no bfloat16. optim_wrapper.dtype=bfloat16 chooses "
                'it for a model without RoIAlign.')
    if has_recent_gpu() and torch.cuda.is_bf16_supported():
        optim_wrapper.dtype = 'bfloat16'
        optim_wrapper.loss_scale = ConfigDict(enabled=False)
        return ('Mixed precision: bfloat16 without loss scaling; '
                'optim_wrapper.dtype=float16 chooses float16.')
    return 'Mixed precision: float16, because this GPU is not made for bfloat16.'


def adapt_to_cpu(cfg: Config) -> List[str]:
    """Replace, in place, what mmengine can only do on a GPU.

    Mixed precision becomes float32; among several processes, DDP gets no device
    and synchronised batch norm becomes plain batch norm.

    Returns:
        One sentence for each change that alters the numbers, to be logged.
    """
    notes = []
    optim_wrapper = cfg.get('optim_wrapper')
    if optim_wrapper is not None and type_name(optim_wrapper) == 'AmpOptimWrapper':
        optim_wrapper.type = 'OptimWrapper'
        for key in ('loss_scale', 'dtype', 'use_fsdp'):
            optim_wrapper.pop(key, None)
        notes.append('No GPU was found: mixed precision is off, all is float32.')
    if optim_wrapper is not None and not pytorch_is('2.4'):
        # Only newer PyTorch has the fused update, the same numbers, on the CPU.
        optim_wrapper.get('optimizer', {}).pop('fused', None)
    strategy = cfg.get('strategy')
    if strategy is not None and type_name(strategy) == 'DDPStrategy':
        # The config that such a run has saved has device_ids already.
        strategy.model_wrapper = ConfigDict({
            'broadcast_buffers': False, **(strategy.get('model_wrapper') or {}),
            'device_ids': None})
    if cfg.launcher != 'none':
        if cfg.get('model_wrapper_cfg') is None:
            cfg.model_wrapper_cfg = ConfigDict(
                broadcast_buffers=False,
                find_unused_parameters=cfg.get('find_unused_parameters', False))
        wrapper = cfg.model_wrapper_cfg
        if type_name(wrapper) in (
                '', 'MMDistributedDataParallel', 'DistributedDataParallel'):
            wrapper.device_ids = None  # the only value allowed for CPU modules
        cfg.sync_bn = None
        norms = [node for _, node in walk(cfg.get('model'))
                 if isinstance(node, dict) and type_name(node) == 'SyncBN']
        for norm in norms:
            norm['type'] = 'BN'
        if norms:
            notes.append('No GPU was found: SyncBN is BN, each process normalises '
                         'its own batch.')
    return notes


def init_cpu_process_group(launcher: str, timeout: Optional[float] = None) -> None:
    """Start the gloo process group that mmengine would only start with a GPU.

    Args:
        launcher: A key of :data:`.checks.LAUNCHER_VARIABLES`.
        timeout: Seconds after which a collective that hangs is an error.
    """
    names = LAUNCHER_VARIABLES[launcher]
    for name, source in zip(LAUNCHER_VARIABLES['pytorch'], names):
        os.environ[name] = os.environ[source]
    if launcher == 'slurm' and 'MASTER_ADDR' not in os.environ:
        hosts = subprocess.run(
            ['scontrol', 'show', 'hostname', os.environ['SLURM_NODELIST']],
            check=True, capture_output=True, text=True).stdout
        os.environ['MASTER_ADDR'] = hosts.split()[0]
    os.environ.setdefault('MASTER_ADDR', '127.0.0.1')
    os.environ.setdefault('MASTER_PORT', '29500')
    kwargs: Dict[str, Any] = {}
    if timeout is not None:
        kwargs['timeout'] = datetime.timedelta(seconds=timeout)
    torch.distributed.init_process_group('gloo', **kwargs)
