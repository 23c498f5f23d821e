"""The test command of all three toolboxes; ``tools/test.py`` runs it."""

import argparse
import os
from copy import deepcopy
from typing import Optional, Sequence, Tuple

import mmengine
from mmengine.config import Config, ConfigDict
from mmengine.registry import METRICS
from mmengine.runner import Runner

from ..config.boundary import preparing
from ..config.tree import resolve, scope_of, type_name
from ..datasets.checks.walking import leaf_configs
from ..engine.hooks.data_check_hook import DataCheckHook
from ..utils.arguments import positive_int
from ..utils.errors import ConfigurationError
from .checks import check_checkpoint, check_data_paths
from .entry import add_arguments, build_runner, load_config, report_errors
from .opening import background_written, log_found


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Test as the command line says; returns the exit status."""
    return report_errors(test, parse_arguments(argv))


def parse_arguments(argv: Optional[Sequence[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description='Evaluate a checkpoint with a config of mmpretrain, mmseg or '
        'mmdet.')
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint file or URL')
    add_arguments(parser)
    # A shell does not find the home folder in --out=~/predictions.pkl.
    parser.add_argument('--out', type=os.path.expanduser, help='where to write '
                        'predictions: a .pkl file for mmpretrain and mmdet, a folder '
                        'for mmseg')
    parser.add_argument('--out-item', choices=['metrics', 'pred'],
                        help='what --out takes: predictions (default), or the '
                        'metrics as .json, .yml or .pkl')
    parser.add_argument('--amp', action='store_true',
                        help='test with automatic mixed precision')
    parser.add_argument('--tta', action='store_true',
                        help='average over augmented copies of each image')
    parser.add_argument('--show', action='store_true',
                        help='show the predictions in a window')
    parser.add_argument('--show-dir', type=os.path.expanduser,
                        help='folder for images with the predictions')
    parser.add_argument('--interval', type=positive_int, default=1, metavar='N',
                        help='draw one of N images (default: 1, every image)')
    parser.add_argument('--wait-time', type=float, default=2,
                        help='seconds that --show shows each image')
    return parser.parse_args(argv)


def test(args: argparse.Namespace) -> None:
    check_checkpoint(args.checkpoint)
    cfg = load_config(args)
    scope = scope_of(cfg)  # before --tta puts another model around the one that says it
    with preparing(cfg), background_written():
        apply_options(cfg, args)
        check_data_paths(cfg, ['test_dataloader'])
        runner = build_runner(cfg, for_test=True)
        DataCheckHook.of(runner).check(runner, 'test')
        log_found(runner, 'test')
        if args.out and args.out_item != 'metrics' and scope != 'mmseg':
            dump_predictions(runner, args.out, scope)
        metrics = runner.test()
    if args.out and args.out_item == 'metrics' and runner.rank == 0:
        mmengine.dump(metrics, args.out)


def apply_options(cfg: Config, args: argparse.Namespace) -> None:
    """Write the options of the command line into the config, in place."""
    for needed in ('model', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        if cfg.get(needed) is None:
            raise ConfigurationError(f'{args.config} has no {needed}: there is '
                                     'nothing in it to test, as in all pre-training')
    scope = scope_of(cfg)
    check_output(args, scope)
    cfg.load_from = args.checkpoint
    cfg.resume = False
    if args.amp:
        cfg.test_cfg.fp16 = True
    if args.show or args.show_dir:
        if args.tta and scope not in ('mmseg', 'mmdet'):
            raise ConfigurationError(
                "--tta and --show cannot be combined with mmpretrain's configs: its "
                'visualization hook takes one result per image, not several')
        enable_pictures(cfg, args)
    if args.tta:
        enable_test_time_augmentation(cfg, args.config)
    if args.out and args.out_item != 'metrics' and scope == 'mmseg':
        metrics = cfg.test_evaluator
        for metric in metrics if isinstance(metrics, list) else [metrics]:
            metric.output_dir = args.out
            metric.keep_results = True
    if args.no_pin_memory:
        cfg.test_dataloader.pin_memory = False


def check_output(args: argparse.Namespace, scope: str) -> None:
    """Refuse a file type that could only fail after the whole test has run."""
    if args.out is None and args.out_item is not None:
        raise ConfigurationError(f'--out-item {args.out_item} needs --out FILE')
    allowed: Tuple[str, ...] = ('.pkl', '.pickle')
    if args.out_item == 'metrics':
        allowed = ('.json', '.yml', '.yaml', *allowed)
    elif scope == 'mmseg':
        return  # a folder
    if args.out is not None and not args.out.endswith(allowed):
        raise ConfigurationError(
            f'--out {args.out} must end in one of {", ".join(allowed)}')


def dump_predictions(runner: Runner, path: str, scope: str) -> None:
    """Let the evaluator also write every prediction; mmdet compresses masks."""
    kind = 'mmdet.DumpDetResults' if scope == 'mmdet' else 'DumpResults'
    runner.test_loop.evaluator.metrics.append(
        METRICS.build(dict(type=kind, out_file_path=path)))


def enable_pictures(cfg: Config, args: argparse.Namespace) -> None:
    """Turn on the toolbox's visualization hook, which each spells its own way."""
    hook = resolve(cfg, ('default_hooks', 'visualization'))
    if hook is None:
        raise ConfigurationError(
            '--show and --show-dir need a visualization hook in default_hooks, but '
            f'{args.config} has none')
    hook.update(show=args.show, wait_time=args.wait_time, interval=args.interval)
    scope = scope_of(cfg)
    if scope == 'mmseg':
        hook.draw = True
        if args.show_dir:
            cfg.visualizer.save_dir = args.show_dir
    elif scope == 'mmdet':
        hook.update(draw=True, test_out_dir=args.show_dir)
    else:
        hook.update(enable=True, out_dir=args.show_dir)


def enable_test_time_augmentation(cfg: Config, config_path: str) -> None:
    """Wrap the model and the pipeline as the config says, or by flipping."""
    datasets = list(leaf_configs(cfg.test_dataloader.dataset))
    scope = scope_of(cfg)
    if cfg.get('tta_model') is None or cfg.get('tta_pipeline') is None:
        if scope == 'mmseg':
            raise ConfigurationError(
                f'--tta needs tta_model and tta_pipeline in the config, but '
                f'{config_path} does not have both')
        pipeline = deepcopy(datasets[0]['pipeline'])
        if any(dataset['pipeline'] != pipeline for dataset in datasets):
            raise ConfigurationError(
                '--tta needs tta_pipeline in the config, because the data sets of '
                'test_dataloader have different pipelines')
        pack = pipeline.pop()
        if scope == 'mmdet':
            model = dict(type='DetTTAModel', tta_cfg=dict(
                nms=dict(type='nms', iou_threshold=0.5), max_per_img=100))
            # Boxes are flipped back by what the packed sample says of its flip.
            pack = dict(type='PackDetInputs', meta_keys=(
                'img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor',
                'flip', 'flip_direction'))
        else:
            model = dict(type='AverageClsScoreTTA')
        is_tensor = any(
            type_name(step) in ('LoadImageTensor', 'LoadChannels')
            and not step.get('as_array') for step in pipeline)
        flips = [dict(type='torchvision/RandomHorizontalFlip', p=prob) if is_tensor
                 else dict(type='RandomFlip', prob=prob) for prob in (1., 0.)]
        cfg.tta_model = cfg.get('tta_model') or model
        cfg.tta_pipeline = cfg.get('tta_pipeline') or [*pipeline, dict(
            type='TestTimeAug', transforms=[flips, [pack]])]
    cfg.model = ConfigDict(**cfg.tta_model, module=cfg.model)
    for dataset in datasets:
        dataset['pipeline'] = cfg.tta_pipeline
