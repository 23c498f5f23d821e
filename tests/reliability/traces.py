"""What a finished run leaves, as hashes of every bit."""
import hashlib
from pathlib import Path
from typing import Any, Dict

import numpy as np
import torch

# Logged values that depend on the machine, not on the computation.
TIMINGS = ('time', 'data_time', 'memory', 'images_per_second')


def traces(work_dir: str) -> Dict[str, str]:
    """Hash the parts of a run's last checkpoint.

    ``losses`` is the whole history of all that is logged, ``order`` that of the images,
    from :class:`.hooks.KillPointHook`.
    """
    path = Path(work_dir, 'last_checkpoint').read_text().strip()
    # A run's own checkpoint, as in resuming: its history is a pickle.
    checkpoint = torch.load(path, map_location='cpu', weights_only=False)
    history = history_of(checkpoint)
    parts = dict(
        weights=checkpoint['state_dict'],
        ema=checkpoint.get('ema_state_dict'),
        optimizer=checkpoint['optimizer'],
        schedules=checkpoint.get('param_schedulers'),
        order=history.pop('train/batch_hash', None),
        losses=history)
    return {name: digest(part) for name, part in parts.items() if part is not None}


def history_of(checkpoint: dict) -> Dict[str, list]:
    """All logged values of a run, by name, that do not depend on the machine."""
    return {name: buffer.data[0].tolist()
            for name, buffer in checkpoint['message_hub']['log_scalars'].items()
            if name.rpartition('/')[2] not in TIMINGS}


def digest(value: Any) -> str:
    """Hash nested containers: 12 hexadecimal digits."""
    sha = hashlib.sha256()
    _update(sha, value)
    return sha.hexdigest()[:12]


def _update(sha, value: Any) -> None:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            sha.update(str(key).encode())
            _update(sha, value[key])
    elif isinstance(value, (list, tuple)):
        for item in value:
            _update(sha, item)
    elif isinstance(value, torch.Tensor):
        sha.update(f'{value.dtype}{tuple(value.shape)}'.encode())
        sha.update(value.detach().contiguous().view(-1).view(torch.uint8).numpy())
    elif isinstance(value, np.ndarray):  # its repr leaves out values
        _update(sha, torch.from_numpy(value))
    else:
        sha.update(repr(value).encode())
