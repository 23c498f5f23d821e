"""Is distributed training the same mathematics? Prints by how much it differs."""
import argparse
import os.path as osp
import tempfile
from typing import Dict, List, NamedTuple, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.dist import all_gather, get_rank, get_world_size, is_distributed
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import Tensor

from mixedae_mm.apis.encoder import load
from mixedae_mm.engine.strategies.fsdp_strategy import can_shard_on_cpu
from mixedae_mm.launch.entry import build_runner, report_errors
from mixedae_mm.mixing import draw_mix_masks
from mixedae_mm.models.checkpoint_reading import read_weights
from .kill_test_configs import VIT, pretraining
from .processes import in_processes, without_log

IMAGES, STEPS, TOLERANCE = 16, 6, 1e-6
MODEL = dict(
    type='MixedAE',
    backbone=dict(VIT, drop_path_rate=0., out_type='raw'),
    neck=dict(type='MixedAEDecoder', decoder_embed_dim=32, decoder_depth=1,
              decoder_num_heads=2),
    head=dict(type='MixedAEPretrainHead'))
# Adam divides gradients by their size, which makes rounding noise of those that
# are zero in theory (biases of attention keys) as large as any; so SGD, with
# steps large enough that the weights really change.
OPTIMIZER = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05)
# DDP and FSDP make the same additions, unless they accumulate: there it can be AdamW.
ADAMW = dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)


class History(NamedTuple):
    """What some training steps leave, on the CPU.

    Attributes:
        losses (list[float]): Of every step, mean over processes.
        gradients (list[dict[str, Tensor]]): Of every update.
        weights (dict[str, Tensor]): After the last update.
    """
    losses: List[float]
    gradients: List[Dict[str, Tensor]]
    weights: Dict[str, Tensor]


class Comparison(NamedTuple):
    """By how much two runs differ, at most."""
    title: str
    loss: float
    gradient: Optional[float]  # None where only weights are known
    weight: float
    moved: float  # how far the weights went, for comparison

    @property
    def equal(self) -> bool:
        return max(self.loss, self.gradient or 0, self.weight) <= TOLERANCE


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the comparisons as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--processes', type=int, default=2, metavar='N',
                        help='2 (default) or 4, which divide the batch of 16 images')
    parser.add_argument('--work-dir', help='folder for the FSDP runs (default: a '
                        'temporary one)')
    args = parser.parse_args(argv)
    args.rows = []
    return report_errors(_run, args) or int(
        not all(row.equal for row in args.rows))


def _run(args: argparse.Namespace) -> None:
    print(f'largest differences; equal is up to {TOLERANCE:g}')
    for mode in ('compose', 'full'):
        for accumulate in (1, 2):
            args.rows.append(compare_ddp(mode, accumulate, args.processes))
            print(line(args.rows[-1]), flush=True)
    if not can_shard_on_cpu():
        print('FSDP: not tried, this PyTorch cannot run it on a CPU.')
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = osp.abspath(args.work_dir or temporary)
        for accumulate in (1, 2):
            args.rows.append(compare_fsdp(folder, accumulate, args.processes))
            print(line(args.rows[-1]), flush=True)
        args.rows.append(compare_resumed_fsdp(folder, args.processes))
        print(line(args.rows[-1]), flush=True)
        print(tools_load(osp.join(folder, 'fsdp_1'), folder))


def line(row: Comparison) -> str:
    """A row of the table."""
    gradient = '-' if row.gradient is None else f'{row.gradient:.1e}'
    return (f'{row.title:49} loss {row.loss:.1e}  gradient {gradient:>7}  '
            f'weight {row.weight:.1e} (moved by {row.moved:.1e})  '
            f'{"equal" if row.equal else "DIFFERENT"}')


def compare_ddp(mode: str, accumulate: int, processes: int = 2) -> Comparison:
    """One process over the whole batch, and several over shares of it."""
    whole = in_processes(train, 1, mode, accumulate)[0]
    parts = in_processes(train, processes, mode, accumulate)[0]
    start = initial_model(mode).state_dict()
    return Comparison(
        f'{processes} processes and 1, {mode}' +
        f', {accumulate} batches an update' * (accumulate > 1),
        max(abs(a - b) for a, b in zip(whole.losses, parts.losses)),
        max(map(_difference, whole.gradients, parts.gradients)),
        _difference(whole.weights, parts.weights),
        _difference(whole.weights, start))


def compare_fsdp(folder: str, accumulate: int, processes: int = 2) -> Comparison:
    """The same training run with DDP and with FSDP, from the config on."""
    pretraining(osp.join(folder, 'images'))  # makes them, once for all processes
    found = {}
    for kind in ('ddp', 'fsdp'):
        work_dir = osp.join(folder, f'{kind}_{accumulate}')
        losses = in_processes(run_config, processes, kind, accumulate,
                              osp.join(folder, 'images'), work_dir)[0]
        found[kind] = losses, read_weights(osp.join(work_dir, 'iter_14.pth'))
        first = read_weights(osp.join(work_dir, 'iter_7.pth'))
    (ddp_losses, ddp), (fsdp_losses, fsdp) = found['ddp'], found['fsdp']
    return Comparison(
        'FSDP and DDP' + f', {accumulate} batches an update' * (accumulate > 1),
        max(abs(a - b) for a, b in zip(ddp_losses, fsdp_losses)), None,
        _difference(ddp, fsdp), _difference(ddp, first))


def compare_resumed_fsdp(folder: str, processes: int = 2) -> Comparison:
    """The run that :func:`compare_fsdp` made, and its second half once more."""
    whole, again = osp.join(folder, 'fsdp_1'), osp.join(folder, 'fsdp_resumed')
    losses = [
        in_processes(run_config, processes, 'fsdp', 1, osp.join(folder, 'images'),
                     run, osp.join(whole, f'iter_{start}.pth'))[0]
        for run, start in ((again, 7), (whole, 14))]  # the latter ends at once
    found = [read_weights(osp.join(run, 'iter_14.pth')) for run in (whole, again)]
    start = read_weights(osp.join(whole, 'iter_7.pth'))
    return Comparison(
        'FSDP resumed and uninterrupted',
        max(abs(a - b) for a, b in zip(*losses)), None,
        _difference(*found), _difference(found[0], start))


def tools_load(work_dir: str, folder: str) -> str:
    """Read a checkpoint of FSDP as the single-process tools do."""
    path = osp.join(work_dir, 'iter_14.pth')
    model = MODELS.build(MODEL)
    model.load_state_dict(read_weights(path), strict=True)
    features = load(path).features(osp.join(folder, 'images'))
    return (f'{osp.basename(work_dir)}/iter_14.pth: all {len(model.state_dict())} '
            f'weights fit one process\'s model; features {tuple(features.shape)} of '
            f'the training images, finite: {bool(features.isfinite().all())}')


def initial_model(mode: str) -> torch.nn.Module:
    """The same weights in every process."""
    torch.manual_seed(0)
    model = MODELS.build(dict(MODEL, data_preprocessor=dict(mode=mode)))
    with without_log():
        model.init_weights()
    return model


def train(mode: str, accumulate: int) -> History:
    """Some steps with given masks, on this process's share of every batch."""
    model = initial_model(mode)
    if is_distributed():
        model = MMDistributedDataParallel(model, broadcast_buffers=False)
    wrapper = build_optim_wrapper(model, dict(
        optimizer=OPTIMIZER, accumulative_counts=accumulate))
    wrapper.initialize_count_status(model, 0, STEPS)
    bare = getattr(model, 'module', model)
    losses, gradients = [], []
    wrapper.optimizer.register_step_pre_hook(lambda *args: gradients.append({
        name: parameter.grad.clone()
        for name, parameter in bare.named_parameters() if parameter.requires_grad}))
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        images = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=generator,
                               dtype=torch.uint8)
        samples = bare.data_preprocessor.num_samples(IMAGES)
        masks = draw_mix_masks(samples, 16, 4, generator=generator)
        data = dict(inputs=_share(images), mix_mask=_share(masks), data_samples=None)
        loss = model.train_step(data, wrapper)['loss']
        losses.append(float(torch.stack(all_gather(loss.detach())).mean()))
    return History(losses, gradients, dict(bare.state_dict()))


def run_config(kind: str, accumulate: int, images: str, work_dir: str,
               resume: Optional[str] = None) -> List[float]:
    """A training run from a config, checkpoints after 7 and 14; returns the losses."""
    cfg = pretraining(images)
    cfg.merge_from_dict(dict(
        work_dir=work_dir, launcher='pytorch', log_level='ERROR',
        resume=resume is not None, load_from=resume,
        train_cfg=dict(max_iters=14),
        train_dataloader=dict(num_workers=0, persistent_workers=False)))
    cfg.optim_wrapper = dict(
        type='OptimWrapper', accumulative_counts=accumulate,
        optimizer=ADAMW if accumulate == 1 else OPTIMIZER,
        paramwise_cfg=dict(custom_keys=dict(bias=dict(decay_mult=0.0))))
    if kind == 'fsdp':
        cfg.runner_type = 'FlexibleRunner'
        cfg.strategy = dict(type='ViTFSDPStrategy')
    runner = build_runner(Config(cfg.to_dict()))
    runner.train()
    return runner.message_hub.get_scalar('train/loss').data[0].tolist()


def _share(batch: Tensor) -> Tensor:
    """This process's part of a batch: whole groups, in order."""
    return batch.chunk(get_world_size())[get_rank()]


def _difference(one: Dict[str, Tensor], other: Dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)
