"""What does exact resume cost? Two runs, with and without it, step by turns."""
import argparse
import statistics
import tempfile
import threading
import time
from typing import Dict, List, Optional, Sequence

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from ..benchmark.compare import alternate, machine, summarize
from ..config_names import mim_folder
from ..engine.launch import build_runner, report_errors
from .fault_images import corrupt

DEMO = 'configs/demo/mixedae_vit-tiny_demo.py'
OFF, ON = 'without', 'with exact resume'


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Measure as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', nargs='?', help='config of a pre-training run '
                        f'by iterations (default: {DEMO}, on images of noise)')
    parser.add_argument('--steps', type=int, default=100, metavar='N',
                        help='of each run (default: 100)')
    return report_errors(_run, parser.parse_args(argv))


def _run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        cfg = Config.fromfile(args.config or mim_folder() / DEMO)
        if args.config is None:
            corrupt(folder, 512, 0)
            cfg.train_dataloader.dataset.data_root = folder
        steps = step_times(cfg, args.steps, folder)
        print(f'{args.steps} steps each, by turns; the median of the ratios of '
              'neighbours, and where half of them lie')
        print(_line('a step', steps))
        print(_line('loading an epoch in a worker', loading_times(cfg)))
    print('machine:', ', '.join(map(str, machine(torch.device('cpu')).values())))


def step_times(cfg: Config, steps: int, folder: str) -> Dict[str, List[float]]:
    """Seconds of whole iterations of two runs that take turns in one process.

    Args:
        cfg (Config): Of a run by iterations.
        steps (int): Of each run; as many again before them do not count.
        folder (str): For their work folders.

    Returns:
        dict[str, list[float]]: Without and with :class:`ExactResumeHook`.
    """
    turns = Turns([OFF, ON])
    threads = []
    for name in (OFF, ON):
        own = Config(cfg.to_dict())
        own.update(work_dir=f'{folder}/{name}', launcher='none', log_level='ERROR',
                   experiment_name=name, visualizer=None)
        own.custom_hooks = [
            hook for hook in own.custom_hooks
            if name == ON and hook.type == 'ExactResumeHook']
        own.default_hooks.checkpoint = None
        own.train_cfg.max_iters = 2 * steps
        runner = build_runner(own)
        runner.register_hook(TurnHook(turns, name), priority='LOWEST')
        threads.append(threading.Thread(target=runner.train))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {name: seconds[steps:] for name, seconds in turns.seconds.items()}


def loading_times(cfg: Config, rounds: int = 6) -> Dict[str, List[float]]:
    """Seconds of a pass over the data in one worker, samples seeded or not."""
    loaders = {}
    for name, seed in ((OFF, None), (ON, 0)):
        own = Config(cfg.to_dict())
        own.update(work_dir='.', launcher='none', log_level='ERROR',
                   experiment_name=f'loading {name}', visualizer=None)
        dataset = build_runner(own).train_dataloader.dataset
        dataset.seed = seed
        loaders[name] = DataLoader(
            dataset, batch_size=64, num_workers=1, persistent_workers=True,
            collate_fn=len)  # nothing but loading, and no tensors to send

    return alternate({
        name: lambda loader=loader: [None for _ in loader]
        for name, loader in loaders.items()
    }, torch.device('cpu'), repeats=rounds)


class Turns:
    """Whose turn it is; one thread computes at a time."""

    def __init__(self, names: List[str]) -> None:
        self.names, self.now = list(names), names[0]
        self.changed = threading.Condition()
        self.seconds: Dict[str, List[float]] = {name: [] for name in names}

    def wait(self, name: str) -> None:
        with self.changed:
            self.changed.wait_for(lambda: self.now == name)

    def give(self, name: str) -> None:
        with self.changed:
            others = [other for other in self.names if other != name]
            self.now = others[0] if others else name
            self.changed.notify_all()

    def leave(self, name: str) -> None:
        self.give(name)
        self.names.remove(name)


class TurnHook(Hook):
    """Let the other run make a step after each own."""

    def __init__(self, turns: Turns, name: str) -> None:
        self.turns, self.name = turns, name

    def before_train_epoch(self, runner) -> None:
        self.turns.wait(self.name)
        self.begin = time.perf_counter()

    def after_train_iter(self, runner, batch_idx, data_batch=None,
                         outputs=None) -> None:
        self.turns.seconds[self.name].append(time.perf_counter() - self.begin)
        self.turns.give(self.name)
        self.turns.wait(self.name)
        self.begin = time.perf_counter()

    def after_train(self, runner) -> None:
        self.turns.leave(self.name)


def _line(what: str, seconds: Dict[str, List[float]]) -> str:
    _, on = summarize(seconds, peer=OFF)
    ratios = [a / b for a, b in zip(seconds[ON], seconds[OFF])]
    low, _, high = statistics.quantiles(ratios, n=4)
    return (f'{what}: {1e3 * statistics.median(seconds[OFF]):.1f} ms without, '
            f'{1e3 * on["median_s"]:.1f} ms with; ratio {on["ratio"]:.4f} '
            f'({low:.3f} to {high:.3f})')
