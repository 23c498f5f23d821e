"""The training command of all three toolboxes; ``tools/train.py`` runs it."""

import argparse
from typing import Optional, Sequence

from mmengine.config import Config, ConfigDict

from ..config.boundary import preparing
from ..config.tree import runner_of, type_name
from ..config.values import DATALOADERS
from ..engine.hooks.data_check_hook import DataCheckHook
from ..utils.checkpoint_files import (find_resumable_checkpoint, has_checkpoints,
                                      out_dir_of)
from ..utils.errors import ConfigurationError
from .checks import check_checkpoints, check_data_paths, schedule_note
from .entry import add_arguments, build_runner, load_config, report_errors
from .opening import background_written, log_found


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Train as the command line says; returns the exit status."""
    return report_errors(train, parse_arguments(argv))


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Train with a config of mmpretrain, mmseg or mmdet.')
    parser.add_argument('config', help='config file')
    add_arguments(parser)
    parser.add_argument(
        '--resume', nargs='?', const='auto', metavar='CHECKPOINT',
        help='go on from CHECKPOINT, which must be one you trust, because optimizer '
        'states are unpickled; alone or with "auto", from the latest one in the work '
        'folder')
    parser.add_argument('--amp', action='store_true',
                        help='train with automatic mixed precision')
    parser.add_argument('--compile', action=argparse.BooleanOptionalAction,
                        help='compile encoder, decoder and losses, or not (default: '
                        'as the CompileHook of the config says)')
    parser.add_argument('--auto-scale-lr', action='store_true',
                        help='scale the learning rate from the batch size that the '
                        'config names to the real one')
    parser.add_argument('--no-validate', action='store_true',
                        help='do not evaluate during training')
    parser.add_argument('--no-persistent-workers', action='store_true',
                        help='start the data loading workers anew each epoch')
    return parser.parse_args(argv)


def train(args: argparse.Namespace) -> None:
    cfg = load_config(args)
    with preparing(cfg), background_written():
        apply_options(cfg, args)
        check_checkpoints(cfg)
        check_data_paths(cfg, ['train_dataloader', 'val_dataloader'])
        runner = build_runner(cfg)
        note = schedule_note(cfg)
        if note:
            runner.logger.warning(note)
        DataCheckHook.of(runner).check(runner, 'train', 'val')
        log_found(runner, 'train', 'val')
        runner.train()


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the options of the command line into the config, in place."""
    for needed in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if cfg.get(needed) is None:
            raise ConfigurationError(f'{args.config} has no {needed}, so it cannot be '
                                     'trained')
    if args.resume is not None:
        set_resumed(cfg, args.resume)
    if args.amp:
        enable_mixed_precision(cfg, args.config)
    if args.compile is not None:
        set_compiling(cfg, args.compile)
    if args.auto_scale_lr:
        enable_lr_scaling(cfg, args.config)
    count_accumulation(cfg)
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    for loader in filter(None, map(cfg.get, DATALOADERS)):
        if args.no_pin_memory:
            loader.pin_memory = False
        if args.no_persistent_workers:
            loader.persistent_workers = False


def set_resumed(cfg: Config, checkpoint: str) -> None:
    """Resume from a checkpoint or, by ``'auto'``, from the run's newest, in place.

    A run that has none yet starts from ``load_from``, if the config has it.
    """
    start, cfg.resume, cfg.load_from = cfg.get('load_from'), True, None
    if checkpoint != 'auto':
        cfg.load_from = checkpoint
    elif start and not has_checkpoints(cfg.work_dir, out_dir_of(cfg)):
        cfg.load_from, cfg.resume = start, False
    elif runner_of(cfg) == 'FlexibleRunner':
        # It loads before SafeCheckpointHook could skip a damaged file.
        cfg.load_from = find_resumable_checkpoint(cfg.work_dir, out_dir_of(cfg))


def enable_lr_scaling(cfg: Config, config_path: str) -> None:
    """Have mmengine scale the learning rate to the real batch, in place."""
    if 'base_batch_size' not in (cfg.get('auto_scale_lr') or {}):
        raise ConfigurationError(
            '--auto-scale-lr needs auto_scale_lr = dict(base_batch_size=...) in the '
            f'config, the batch size its learning rate is for, but {config_path} has '
            'none')
    cfg.auto_scale_lr.enable = True


def count_accumulation(cfg: Config) -> None:
    """Make automatic scaling count accumulated batches, in place.

    mmengine takes processes x batch size for the real batch and overlooks
    gradient accumulation; dividing the nominal batch by the accumulated steps
    gives the right ratio.
    """
    scaling = cfg.get('auto_scale_lr') or ConfigDict()
    steps = (cfg.get('optim_wrapper') or {}).get('accumulative_counts', 1)
    # The mark stays in the config that a run saves, which may be run again.
    if scaling.get('enable') and steps > 1 and not scaling.get('accumulation_counted'):
        scaling.base_batch_size /= steps
        scaling.accumulation_counted = True


def enable_mixed_precision(cfg: Config, config_path: str) -> None:
    """Turn a plain optimizer wrapper into the mixed-precision one, in place."""
    kind = type_name(cfg.optim_wrapper)
    if kind in ('', 'OptimWrapper'):
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    elif kind != 'AmpOptimWrapper':
        raise ConfigurationError(
            f'--amp needs an optim_wrapper of type OptimWrapper, but {config_path} '
            f'has {kind}')


def set_compiling(cfg: Config, enabled: bool) -> None:
    """Switch every ``CompileHook`` on or off, in place; add one if there is none."""
    hooks = [hook for hook in cfg.get('custom_hooks') or ()
             if isinstance(hook, dict) and type_name(hook) == 'CompileHook']
    if not hooks:
        hooks = [ConfigDict(type='CompileHook')]
        cfg.custom_hooks = [*(cfg.get('custom_hooks') or ()), *hooks]
    for hook in hooks:
        hook['enabled'] = enabled
