"""Facts about this machine: what a figure was measured on, what its GPU can do."""
import os
import platform
from pathlib import Path

import torch
from mmengine.utils import digit_version


def machine(device: torch.device) -> dict:
    """Describe what a figure was measured on, without host name and paths."""
    facts = dict(
        device=device.type,
        processor=_processor(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        torch=torch.__version__)
    if device.type == 'cuda':
        facts['gpu'] = torch.cuda.get_device_name(device)
    return facts


def cpu_cores() -> int:
    """How many processor cores this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # macOS


def pytorch_is(version: str) -> bool:
    """Whether PyTorch has this version or a newer one."""
    return digit_version(torch.__version__) >= digit_version(version)


def has_recent_gpu() -> bool:
    """Whether the GPU has compute capability 8.0: bfloat16 in its matrix units."""
    return (torch.cuda.is_available()
            and torch.cuda.get_device_capability() >= (8, 0))


def _processor() -> str:
    try:
        lines = Path('/proc/cpuinfo').read_text().splitlines()
    except OSError:  # not Linux, or not readable
        lines = []
    for line in lines:
        if line.startswith('model name'):
            return line.split(':', 1)[1].strip()
    return platform.processor() or platform.machine()
