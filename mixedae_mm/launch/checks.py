"""What a command refuses before it builds anything, each in one sentence."""
import inspect
import os
from typing import Iterator, Sequence

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from .. import compat
from ..config.tree import runner_of, type_name, walk
from ..datasets.checks.walking import leaf_configs
from ..utils.errors import ConfigurationError, nearest

# Data sets that fetch themselves when they are missing.
SELF_FETCHING = ('CIFAR10', 'CIFAR100', 'MNIST', 'FashionMNIST')
# What strategies of mmengine import while they are built.
STRATEGY_PACKAGES = {
    'DeepSpeedStrategy': 'deepspeed', 'ColossalAIStrategy': 'colossalai'}
# What each launcher sets in every process: rank, number of processes, rank on
# the node.
LAUNCHER_VARIABLES = {
    'pytorch': ('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    'slurm': ('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    'mpi': ('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE',
            'OMPI_COMM_WORLD_LOCAL_RANK'),
}


def check_checkpoints(cfg: Config) -> None:
    """Refuse a training that would start from a file that does not exist."""
    if isinstance(cfg.get('load_from'), str):
        check_checkpoint(cfg.load_from)
    for node in initial_weights(cfg):
        check_checkpoint(
            node['checkpoint'], '; the environment variable PRETRAINED, or init_cfg in '
            'the config, says where the weights are')


def check_checkpoint(path: str, advice: str = '') -> None:
    """Refuse a checkpoint that does not exist."""
    if _is_missing(path):
        raise ConfigurationError(f'checkpoint {path} does not exist{advice}')


def check_data_paths(cfg: Config, loaders: Sequence[str]) -> None:
    """Refuse loaders, such as ``'train_dataloader'``, whose data are missing."""
    for name in loaders:
        for dataset in leaf_configs((cfg.get(name) or {}).get('dataset')):
            for path in _paths(dataset):
                if _is_missing(path):
                    raise ConfigurationError(
                        f'{name} needs {path}, which does not exist; the '
                        'environment variable DATA_ROOT, or data_root in the '
                        'config, says where the data are.')


def initial_weights(cfg: Config) -> Iterator[dict]:
    """Every ``init_cfg`` in a config that names a checkpoint."""
    for _, node in walk(cfg):
        if isinstance(node, dict) and isinstance(node.get('checkpoint'), str) and (
                type_name(node) in ('Pretrained', 'PretrainedInit')):
            yield node


def schedule_note(cfg: Config) -> str:
    """A sentence about a schedule that does not end with the run, else ''.

    ``max_epochs`` alone shortens the run, and the learning rate stays in the warm-up.
    """
    parts = [(path, node) for path, node in walk(
        dict(param_scheduler=cfg.get('param_scheduler')))
        if isinstance(node, dict) and 'type' in node]
    for unit, key in (('epoch', 'max_epochs'), ('iteration', 'max_iters')):
        length = (cfg.get('train_cfg') or {}).get(key)
        for path, node in reversed(parts):
            end = node.get('end')
            if not length or end is None or (unit == 'epoch') != node.get(
                    'by_epoch', True):
                continue
            if end > length or (end < length and node is parts[-1][1]):
                return (f'The schedule ends at {unit} {end}, the run at {length} '
                        f'({path}, {type_name(node)}): set {path}.end, too.')
    return ''


def check_launcher(launcher: str) -> None:
    """Refuse a launcher that did not start this process, or too many processes."""
    if launcher == 'none':
        return
    missing = [name for name in LAUNCHER_VARIABLES[launcher] if name not in os.environ]
    if missing:
        start = {'pytorch': 'torchrun, as tools/dist_train.sh does',
                 'slurm': 'srun, as tools/slurm_train.sh does', 'mpi': 'mpirun'}
        raise ConfigurationError(
            f'--launcher {launcher} needs {", ".join(missing)} in the environment: '
            f'start with {start[launcher]}, or use --launcher none')
    local_rank = int(os.environ[LAUNCHER_VARIABLES[launcher][2]])
    gpus = torch.cuda.device_count()
    if get_device() == 'cuda' and local_rank >= gpus:
        raise ConfigurationError(
            f'process {local_rank} of this node has no GPU, there are only {gpus}: '
            'start at most one process per GPU, or set CUDA_VISIBLE_DEVICES=-1 to run '
            'on the CPU')


def check_strategy(cfg: Config) -> None:
    """Refuse a strategy that cannot start here, or that the runner does not read."""
    kind = type_name(cfg.get('strategy') or {})
    if kind and runner_of(cfg) == 'Runner':
        raise ConfigurationError(
            f'The config sets strategy ({kind}), which the ordinary Runner does not '
            "read: set runner_type='FlexibleRunner', or leave strategy out.")
    if kind not in ('', 'SingleDeviceStrategy') and (
            cfg.get('launcher', 'none') == 'none'):
        raise ConfigurationError(
            f'The config trains with {kind}, which needs several processes: start '
            'with tools/dist_train.sh CONFIG PROCESSES, or add --cfg-options '
            'strategy.type=SingleDeviceStrategy')
    package = STRATEGY_PACKAGES.get(kind)
    if package and not compat.is_available(package):
        raise ConfigurationError(
            f'The config trains with {kind}, which needs the package {package}: run '
            f'`pip install {package}`, or use ViTFSDPStrategy, which needs none')


def check_checkpoint_hook(runner: Runner) -> None:
    """Refuse arguments of a ``CheckpointHook`` that do not exist.

    mmengine's constructor takes every name and fails at the first save.
    """
    known = set(inspect.signature(CheckpointHook.__init__).parameters)
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        for name in hook.args:
            close = nearest(name, known - {'self', 'kwargs'})
            hint = f': did you mean {close}?' if close else '.'
            raise ConfigurationError(
                f'default_hooks.checkpoint.{name} is not an argument of '
                f'{type(hook).__name__}{hint}')


def _is_missing(path: str) -> bool:
    """Whether there is neither file nor folder; addresses are left to mmengine."""
    return '://' not in path and not os.path.exists(os.path.expanduser(path))


def _paths(dataset: dict) -> Iterator[str]:
    """Folders and files of a dataset config, outermost first.

    mmengine's rule: what is not absolute lies below ``data_root``.
    """
    root = dataset.get('data_root') or ''
    if not isinstance(root, str) or (
            type_name(dataset) in SELF_FETCHING and dataset.get('download', True)):
        return
    prefix = dataset.get('data_prefix') or ()
    parts = prefix.values() if isinstance(prefix, dict) else [prefix]
    if root:
        yield root
    for part in [dataset.get('ann_file'), *parts]:
        if isinstance(part, str) and part:
            yield os.path.join(root, part)
