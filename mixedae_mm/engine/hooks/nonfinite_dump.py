"""Describe and keep a step whose loss or gradient was not finite."""
from pathlib import Path
from typing import Any, Dict, List

import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.structures import BaseDataElement

from ...utils.messages import listed
from ...utils.random import seed_generators
from ..resume.exact_resume_hook import STEP
from ..resume.rank_state import bare, is_sharded


def nonfinite_report(losses: Dict[str, float], gradients: List[str],
                     data_batch: Any) -> str:
    """Losses, parameters with bad gradients and files of a batch, in one line."""
    text = ', '.join(f'{name}={value:g}' for name, value in losses.items())
    if gradients:
        text += f'; gradient of {listed(gradients)}'
    files = _files_of(data_batch)
    return f'{text}; batch of {listed(files)}' if files else text


def dump_step(runner, losses: Dict[str, float], data_batch: Any) -> str:
    """Write down what :func:`replay_nonfinite_loss` needs.

    Returns:
        str: ``work_dir/nonfinite/iter_N_rank_R.pth``, or why there is none.
    """
    path = Path(runner.work_dir, 'nonfinite',
                f'iter_{runner.iter + 1}_rank_{get_rank()}.pth')
    step = dict(losses=losses, files=_files_of(data_batch), data_batch=data_batch,
                random_key=(runner.seed, runner.iter, STEP))
    if not is_sharded(runner):
        step['state_dict'] = bare(runner.model).state_dict()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(step, path)
    except (OSError, RuntimeError) as error:  # torch's own for a full disk
        return f'no file ({error})'
    return str(path)


def replay_nonfinite_loss(path: str, model: BaseModel) -> Dict[str, float]:
    """Compute the losses of a step again, to look for their cause.

    Under ``torch.autograd.detect_anomaly()``, with hooks on modules, in another
    precision; mixed precision takes a surrounding ``torch.autocast``. The random
    numbers (mixing masks, drop path) are those of the step if the run used
    :class:`ExactResumeHook`.

    Args:
        path (str): A file that :class:`NonFiniteLossHook` wrote. It is a pickle, so do
            not replay those of strangers.
        model (BaseModel): Built from the config of the run, on a device of the same
            kind, since a GPU draws other numbers. Its weights are replaced.

    Returns:
        dict[str, float]: The losses by name.
    """
    dump = torch.load(path, map_location='cpu', weights_only=False)
    model.load_state_dict(dump['state_dict'])
    model.train()
    seed_generators(*dump['random_key'])
    data = model.data_preprocessor(dump['data_batch'], True)
    _, losses = model.parse_losses(model._run_forward(data, mode='loss'))
    return {name: value.item() for name, value in losses.items()}


def _files_of(data_batch: Any) -> List[str]:
    """Paths of a batch's images, as far as its data samples know them."""
    samples = data_batch.get('data_samples') if isinstance(data_batch, dict) else None
    paths = (sample.get('img_path', None) for sample in samples or []
             if isinstance(sample, BaseDataElement))
    return [str(path) for path in paths if path]
