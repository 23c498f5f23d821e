"""A training run of a second, with every kind of randomness and state.

Its model draws from torch, its pipeline from Python, NumPy and torch, its evaluation as
well; it has dropout, batch norm, EMA, momentum, an epoch- and an iteration-based
schedule. What a resume can lose, it has.
"""
import json
import os
import random
import sys
import uuid
import zlib
from pathlib import Path

import numpy as np
import torch
import torch.multiprocessing as mp
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from mmengine.structures import BaseDataElement
from torch import nn

from mixedae_mm.launch.entry import build_runner
from reliability.lives import start
from reliability.traces import TIMINGS, history_of, traces

SIZE = 27  # images; 7 batches of 4, the last one of 3
MID_EPOCH = dict(checkpoint=dict(by_epoch=False, interval=3))
ENDLESS = dict(loop='iteration', sampler='InfiniteSampler', checkpoint=dict(interval=5))


class Killed(BaseException):
    """What stands for SIGKILL where one process plays all lives of a run."""


@DATASETS.register_module()
class ToyDataset:
    """Numbers, augmented by all three generators."""

    def __init__(self, size=SIZE):
        generator = torch.Generator().manual_seed(1)
        self.images = torch.randn(size, 4, generator=generator)
        self.loaded = []

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        self.loaded.append(index)
        noise = (random.random(), np.random.rand(), float(torch.rand(())))
        return dict(
            inputs=self.images[index] * (1 + 0.1 * sum(noise)),
            data_samples=BaseDataElement(metainfo=dict(img_path=f'image_{index}.jpg')))


@MODELS.register_module()
class ToyModel(BaseModel):

    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.layers = nn.Sequential(
            nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))

    def forward(self, inputs, data_samples=None, mode='tensor'):
        inputs = torch.stack(list(inputs))
        noise = random.random() + np.random.rand() + torch.rand(())
        output = self.layers(inputs).squeeze(1)
        if mode == 'loss':
            return dict(loss_toy=(output - inputs.sum(1) + 0.1 * noise)**2)
        return list(output + 0 * noise)


@METRICS.register_module()
class ToyMetric(BaseMetric):

    def process(self, data_batch, data_samples):
        self.results += [float(sample) for sample in data_samples]

    def compute_metrics(self, results):
        return dict(mean=float(np.mean(results)) + random.random())


@HOOKS.register_module()
class DigestHook(Hook):
    """Log a checksum of every batch, so that the log shows their order."""

    def after_train_iter(self, runner, batch_idx, data_batch, outputs=None):
        batch = torch.stack(list(data_batch['inputs'])).numpy().tobytes()
        runner.message_hub.update_scalar('train/batch', zlib.crc32(batch))


@HOOKS.register_module()
class KillHook(Hook):
    """End the run at a given stage of a given iteration, on one rank."""
    priority = 'HIGHEST'

    def __init__(self, stage, iteration, rank=0):
        self.iteration, self.rank = iteration, rank
        setattr(self, stage, self.strike)

    def strike(self, runner, *args, **kwargs):
        if runner.iter >= self.iteration and runner.rank == self.rank:
            raise Killed


def kill(iteration=10, stage='after_train_iter', **kwargs):
    """Options of a run that is killed."""
    return dict(hooks=[dict(type='KillHook', stage=stage, iteration=iteration,
                            **kwargs)])


def config(work_dir, loop='epoch', sampler='DefaultSampler', workers=0,
           checkpoint=None, hooks=(), accumulative_counts=2, resume=False,
           launcher='none', batch_size=4, seed=3, size=SIZE, without=None,
           **options):
    """The toy run: 21 iterations, evaluated three times."""
    epochs = loop == 'epoch'
    loader = dict(batch_size=batch_size, dataset=dict(type='ToyDataset', size=size))
    checkpoint = {**dict(type='SafeCheckpointHook', by_epoch=epochs,
                         interval=1 if epochs else 7, max_keep_ckpts=2),
                  **(checkpoint or {})}
    all_hooks = [dict(type='ExactResumeHook'), dict(type='EMAHook', momentum=0.1),
                 dict(type='DigestHook'), *hooks]
    return {**dict(
        model=dict(type='ToyModel'),
        work_dir=str(work_dir),
        train_dataloader=dict(
            loader, num_workers=workers, persistent_workers=workers > 0,
            sampler=dict(type=sampler, shuffle=True)),
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        train_cfg=(dict(by_epoch=True, max_epochs=3) if epochs else
                   dict(by_epoch=False, max_iters=21, val_interval=7)),
        val_cfg=dict(),
        val_evaluator=dict(type='ToyMetric'),
        optim_wrapper=dict(
            type='OptimWrapper', accumulative_counts=accumulative_counts,
            optimizer=dict(type='AdamW', lr=0.05)),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=9),
            dict(type='CosineAnnealingLR', by_epoch=epochs, T_max=3 if epochs else 21,
                 convert_to_iter_based=epochs)],
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=2), checkpoint=checkpoint),
        custom_hooks=[hook for hook in all_hooks if hook['type'] != without],
        randomness=dict(seed=seed, diff_rank_seed=True),
        env_cfg=dict(dist_cfg=dict(backend='gloo')),
        launcher=launcher,
        resume=resume,
        log_level='WARNING',
        default_scope='mmengine',
        experiment_name=f'toy-{uuid.uuid4()}'), **options}


def train(work_dir, **kwargs):
    """One life of a run in this process; its Runner, or None if it was killed."""
    runner = build_runner(Config(config(work_dir, **kwargs)))
    runner.cfg = Config()  # formatting it takes longer than the rest of a save
    try:
        runner.train()
    except Killed:
        return None
    finally:
        # Left to the garbage collector, workers take 5 seconds each to stop.
        runner.train_dataloader._iterator = None
        runner.train_loop.dataloader_iterator = None
    return runner


def train_processes(work_dir, processes, **kwargs):
    """One life of a run in several processes; returns their exit codes."""
    children = start(_train_rank, processes, work_dir, kwargs, process=_fork)
    for child in children:
        child.join(120)
        if child.exitcode is None:
            child.kill()
    return [child.exitcode for child in children]


def _fork(target, *args):
    """Start a process that knows what the tests have registered and patched."""
    child = mp.get_context('fork').Process(target=target, args=args)
    child.start()
    return child


def _train_rank(rank, work_dir, kwargs):
    launcher = 'pytorch' if os.environ['WORLD_SIZE'] != '1' else 'none'
    sys.exit(0 if train(work_dir, launcher=launcher, **kwargs) else 9)


def newest(work_dir):
    """The checkpoint that a run has written last."""
    path = (Path(work_dir) / 'last_checkpoint').read_text()
    return torch.load(path, weights_only=False)


def result(work_dir):
    """All that a run leaves, for comparison: hashes and the log."""
    return dict(traces(work_dir), log=logged(work_dir))


def history(work_dir):
    """All logged values by name."""
    return history_of(newest(work_dir))


def logged(work_dir):
    """Everything logged at each step by all lives of a run."""
    steps = {}
    for path in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            entry = json.loads(line)
            values = tuple(sorted((key, value) for key, value in entry.items()
                                  if key not in TIMINGS))
            kind = 'train' if 'lr' in entry else 'val'
            steps.setdefault((kind, entry['step']), set()).add(values)
    return steps
