"""From a config file to a Runner: what ``tools/train.py`` and ``test.py`` share.

One path serves configs of mmpretrain, mmseg and mmdet, one process or many, GPU
or CPU. What is refused before anything is built is in :mod:`..config.boundary` and
:mod:`.checks`; what the GPU, or a CPU in its place, changes is in :mod:`.device`.
"""

import argparse
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Callable

import torch
from mmengine.config import Config, DictAction
from mmengine.device import get_device
from mmengine.dist import is_distributed
from mmengine.runner import CheckpointLoader, Runner
from mmengine.runner.checkpoint import load_from_local

from ..config.boundary import read_config
from ..config.tracing import users_line
from ..config.tree import expand_home, resolve, scope_of
from ..config.values import DATALOADERS
from ..engine.hooks.checked_loading_hook import CheckedLoadingHook
from ..models.checkpoint_loading import check_input_channels
from ..models.checkpoint_reading import read_checkpoint
from ..utils.checkpoint_files import is_own_checkpoint, out_dir_of
from ..utils.errors import ConfigurationError
from .checks import (LAUNCHER_VARIABLES, check_checkpoint_hook, check_launcher,
                     check_strategy, initial_weights)
from .device import adapt_to_cpu, choose_precision, init_cpu_process_group
from .opening import build_opened


class Settings(DictAction):
    """``KEY=VALUE ...`` as a dictionary, with a sentence for what is not."""

    def __call__(self, parser, namespace, values, option_string=None):
        for value in values:
            key, equals, _ = value.partition('=')
            if not equals or not all(key.split('.')):
                parser.error(f'{option_string} {value!r} must be KEY=VALUE, such as '
                             'train_dataloader.batch_size=64')
        try:
            super().__call__(parser, namespace, values, option_string)
        except AssertionError as error:  # brackets that are not closed
            parser.error(f'{option_string}: {error}')


def add_config_options(parser: argparse.ArgumentParser) -> None:
    """``--cfg-options``, as every command with a config has it."""
    parser.add_argument(
        '--cfg-options', nargs='+', action=Settings, default={}, metavar='KEY=VALUE',
        help='override settings of the config: model.backbone.depth=2, '
        'key="[a,b]" or key=a,b for a list; quotes are needed, white space is not '
        'allowed')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that every command has, under OpenMMLab's names."""
    parser.add_argument('--work-dir', help='folder for logs, checkpoints and results '
                        '(default: work_dirs/NAME_OF_CONFIG)')
    add_config_options(parser)
    parser.add_argument('--launcher', choices=['none', *LAUNCHER_VARIABLES],
                        default='none', help='what started the processes')
    parser.add_argument('--no-pin-memory', action='store_true',
                        help='do not pin the memory of the data loaders')
    parser.add_argument('--traceback', action='store_true',
                        help='where an error is, not only what it is')
    # Launchers of old PyTorch versions pass the rank on the node this way.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0,
                        help=argparse.SUPPRESS)


def report_errors(command: Callable[[argparse.Namespace], None],
                  args: argparse.Namespace) -> int:
    """Run ``command`` and print an error of ours as its one sentence.

    Before it comes the traceback of what a user's own code raised. Any other error
    keeps its traceback; ``--traceback``, where the command has it, or
    ``MIXEDAE_TRACEBACK=1`` keep it for ours, too.

    Returns:
        The exit status: 0, 2 after a :class:`ConfigurationError`, or 130 after
        Ctrl-C, as of a shell.
    """
    shown = (getattr(args, 'traceback', False)
             or os.environ.get('MIXEDAE_TRACEBACK', '0') != '0')
    try:
        command(args)
    except KeyboardInterrupt:
        if shown:
            raise
        print('interrupted', file=sys.stderr)
        return 128 + signal.SIGINT
    except ConfigurationError as error:
        if shown:
            raise
        # Ends progress bars, which would write behind the sentence.
        traceback.clear_frames(error.__traceback__)
        if error.__cause__ is not None and users_line(error.__cause__):
            traceback.print_exception(error.__cause__)
        rank = os.environ.get('RANK')
        # What comes from a dataloader worker has its traceback before it.
        sentence = str(error).rpartition(f'{type(error).__name__}: ')[2].strip()
        print(f'error{f" (rank {rank})" if rank else ""}: {sentence}', file=sys.stderr)
        return 2
    if is_distributed():
        torch.distributed.destroy_process_group()
    return 0


def load_config(args: argparse.Namespace) -> Config:
    """The config with the options of :func:`add_arguments`, see :func:`read_config`."""
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(cfg.filename).stem)
    expand_home(cfg)  # a shell does not in --work-dir=~/runs
    return cfg


def build_runner(cfg: Config, for_test: bool = False) -> Runner:
    """Check what can be checked cheaply, start the process group, build.

    Args:
        cfg (Config): With all options applied.
        for_test (bool): Refuse a checkpoint that leaves weights as they were, and
            write the config into the folder of the log.
    """
    check_launcher(cfg.launcher)
    check_strategy(cfg)
    precision, changes = None, []
    if get_device() == 'cuda':
        precision = choose_precision(cfg)
    elif get_device() == 'cpu':
        changes = adapt_to_cpu(cfg)
        if cfg.launcher != 'none' and not is_distributed():
            init_cpu_process_group(
                cfg.launcher, resolve(cfg, ('env_cfg', 'dist_cfg', 'timeout')))
    set_dataloader_defaults(cfg)
    set_input_channels(cfg)
    read_checkpoints_as_data(cfg)
    # PyTorch repeats it for each loader and epoch; log_found says it once.
    warnings.filterwarnings('ignore', message='This DataLoader will create')
    runner = build_opened(cfg, for_test)
    check_checkpoint_hook(runner)
    runner.register_hook(CheckedLoadingHook(
        for_test, cfg.get('input_channels')))
    if precision is not None:
        runner.logger.info(precision)
    for change in changes:
        runner.logger.warning(change)
    return runner


def read_checkpoints_as_data(cfg: Config) -> None:
    """Let mmengine read weights without running code that a file may contain.

    Resuming is the exception, because optimizers and log buffers are more than
    tensors: the checkpoint that ``--resume`` names, and those in the run's own
    folders, are unpickled. All are read onto the CPU: mmengine asks for the GPU, where
    they would lie beside the model, and where AdamW waits for each of its counters.
    """

    def read(path: str, map_location=None) -> dict:
        own = is_own_checkpoint(path, cfg.work_dir, out_dir_of(cfg))
        if cfg.get('resume') and (own or path == cfg.get('load_from')):
            return load_from_local(path, 'cpu')
        return read_checkpoint(path)

    CheckpointLoader.register_scheme(
        ('', 'http://', 'https://', r'(\S+\:)?s3://', r'(\S+\:)?petrel://'), read,
        force=True)


def set_input_channels(cfg: Config) -> None:
    """Hand the top-level ``input_channels`` to every checkpoint that a model names.

    Raises:
        ConfigurationError: If there is not one to start from.
    """
    value = cfg.get('input_channels')
    if value is None:
        return
    check_input_channels(value)
    starts = list(initial_weights(cfg))
    for node in starts:
        node.setdefault('input_channels', value)
    if not (starts or cfg.get('load_from') or cfg.get('resume')):
        raise ConfigurationError(
            f'input_channels is {value!r}, but the config names no checkpoint to start '
            'from: give load_from, or init_cfg of the backbone.')


def set_dataloader_defaults(cfg: Config) -> None:
    """Fill in what mmpretrain's own commands fill in, for mmpretrain's configs.

    Its configs leave out the collate function, pinned memory and persistent
    workers and rely on the command for them; those of mmseg and mmdet do not.
    """
    for name in DATALOADERS:
        loader = cfg.get(name)
        if loader is None:
            continue
        if scope_of(cfg) == 'mmpretrain':
            loader.setdefault('collate_fn', dict(type='default_collate'))
            # Pinning means nothing without a GPU, and PyTorch warns about it.
            loader.setdefault('pin_memory', torch.cuda.is_available())
            loader.setdefault('persistent_workers', True)
        if loader.get('num_workers', 0) == 0:
            # `--cfg-options train_dataloader.num_workers=0` must not need more.
            loader.persistent_workers = False
