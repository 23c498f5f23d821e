"""Several processes train as one does, FSDP as DDP."""
import os.path as osp
from typing import Dict

import pytest
import torch
from mmengine.dist import all_gather, get_rank, get_world_size, is_distributed
from mmengine.logging import MMLogger
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch import Tensor

from mixedae_mm.apis.encoder import load
from mixedae_mm.engine.strategies.fsdp_strategy import can_shard_on_cpu
from mixedae_mm.mixing import draw_mix_masks

from .lives import in_processes, live
from .small_runs import MIXEDAE, VIT, pretraining

pytestmark = pytest.mark.slow

IMAGES, STEPS, TOLERANCE = 16, 6, 1e-6
# Adam divides gradients by their size, which makes rounding noise of those that
# are zero in theory (biases of attention keys) as large as any; so SGD, with
# steps large enough that the weights really change.
SGD = dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05)
# DDP and FSDP make the same additions, unless they accumulate: there it can be AdamW.
ADAMW = dict(type='AdamW', lr=1e-3, betas=(0.9, 0.95), weight_decay=0.05)


@pytest.mark.parametrize('accumulate', [1, 2])
@pytest.mark.parametrize('mode', ['compose', 'full'])
def test_two_processes_equal_one(tell, mode, accumulate):
    """One process over the whole batch, and two over halves of it."""
    losses, gradients, weights, start = zip(*(
        in_processes(train, processes, mode, accumulate) for processes in (1, 2)))
    loss = float((losses[0] - losses[1]).abs().max())
    gradient = max(map(difference, *gradients))
    weight, moved = difference(*weights), difference(weights[0], start[0])
    tell(f'2 processes and 1, {mode}, batches per update: {accumulate}; loss '
         f'{loss:.1e}, gradient {gradient:.1e}, weight {weight:.1e} '
         f'(moved by {moved:.1e})')
    assert max(loss, gradient, weight) <= TOLERANCE and moved > 1e-2


@pytest.mark.skipif(not can_shard_on_cpu(),
                    reason='this PyTorch cannot run FSDP on a CPU')
@pytest.mark.parametrize('accumulate', [1, 2])
def test_fsdp_equals_ddp(tmp_path, tell, accumulate):
    """From the config to a checkpoint that the tools read, and to resuming."""
    ddp = run(tmp_path, 'ddp', accumulate)
    fsdp = run(tmp_path, 'fsdp', accumulate)
    compare(tell, f'FSDP and DDP, batches per update: {accumulate}', ddp, fsdp)
    if accumulate == 1:
        first = str(tmp_path / 'fsdp/iter_7.pth')
        resumed = run(tmp_path, 'fsdp_resumed', 1, '--resume', first)
        compare(tell, 'FSDP resumed and uninterrupted', fsdp, resumed)
        encoder = load(str(tmp_path / 'fsdp/iter_14.pth'))
        assert encoder.features(str(tmp_path / 'images')).isfinite().all()


def train(mode: str, accumulate: int) -> tuple:
    """Make some steps with given masks, on this process's share of every batch.

    Returns losses (STEPS, ), mean over processes; gradients of every update by
    parameter; weights after the last one, and before the first.
    """
    torch.manual_seed(0)  # the same weights in every process
    MMLogger.get_current_instance().setLevel('ERROR')
    bare = model = MODELS.build(dict(
        MIXEDAE, backbone=dict(VIT, drop_path_rate=0.),
        data_preprocessor=dict(mode=mode)))
    model.init_weights()
    start = {name: value.clone() for name, value in bare.state_dict().items()}
    if is_distributed():
        model = MMDistributedDataParallel(model, broadcast_buffers=False)
    wrapper = build_optim_wrapper(model, dict(
        optimizer=SGD, accumulative_counts=accumulate))
    wrapper.initialize_count_status(model, 0, STEPS)
    losses, gradients = [], []
    wrapper.optimizer.register_step_pre_hook(lambda *args: gradients.append({
        name: parameter.grad.clone()
        for name, parameter in bare.named_parameters() if parameter.requires_grad}))
    generator = torch.Generator().manual_seed(1)
    for _ in range(STEPS):
        images = torch.randint(0, 256, (IMAGES, 3, 32, 32), generator=generator,
                               dtype=torch.uint8)
        samples = bare.data_preprocessor.num_samples(IMAGES)
        masks = draw_mix_masks(samples, 16, 4, generator=generator)  # (S, L)
        data = dict(inputs=share(images), mix_mask=share(masks), data_samples=None)
        loss = model.train_step(data, wrapper)['loss']
        losses.append(torch.stack(all_gather(loss.detach())).mean())
    return torch.stack(losses), gradients, bare.state_dict(), start


def run(folder, name: str, accumulate: int, *options: str) -> list:
    """Train two processes from a config; return the checkpoints of 7 and 14 steps."""
    cfg = pretraining(str(folder / 'images'))
    cfg.merge_from_dict(dict(
        log_level='ERROR', train_cfg=dict(max_iters=14),
        train_dataloader=dict(num_workers=0, persistent_workers=False)))
    cfg.optim_wrapper = dict(
        type='OptimWrapper', accumulative_counts=accumulate,
        optimizer=ADAMW if accumulate == 1 else SGD,
        paramwise_cfg=dict(custom_keys=dict(bias=dict(decay_mult=0.0))))
    if 'fsdp' in name:
        cfg.runner_type = 'FlexibleRunner'
        cfg.strategy = dict(type='ViTFSDPStrategy')
    life = live(cfg, str(folder / name), processes=2, options=options)
    assert life.statuses == [0, 0], life.said
    paths = [osp.join(folder, name, f'iter_{step}.pth') for step in (7, 14)]
    # The first checkpoint of a resumed run is that of the run before it.
    return [torch.load(path, weights_only=False) for path in paths
            if osp.exists(path)]


def compare(tell, title: str, one: list, other: list) -> None:
    losses = [torch.tensor(
        run[-1]['message_hub']['log_scalars']['train/loss'].data[0])
        for run in (one, other)]
    loss = float((losses[0] - losses[1]).abs().max())
    weights = [run[-1]['state_dict'] for run in (one, other)]
    weight, moved = difference(*weights), difference(weights[0], one[0]['state_dict'])
    tell(f'{title}; loss {loss:.1e}, weight {weight:.1e} (moved by {moved:.1e})')
    assert max(loss, weight) <= TOLERANCE and moved > 1e-3


def share(batch: Tensor) -> Tensor:
    """This process's part of a batch: whole groups, in order."""
    return batch.chunk(get_world_size())[get_rank()]


def difference(one: Dict[str, Tensor], other: Dict[str, Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max()) for name in one)
