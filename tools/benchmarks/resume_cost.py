"""What does exact resume cost? Two runs, with and without it, step by turns."""
import argparse
import statistics
import tempfile
import threading
import time
import timeit
from types import SimpleNamespace
from typing import Callable, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from torch.utils.data import DataLoader

from mixedae_mm.utils.machine import machine
from mixedae_mm.utils.config_names import mim_folder
from mixedae_mm.datasets import SampleIndex, sample_generators
from mixedae_mm.engine import ExactResumeHook
from mixedae_mm.launch.entry import build_runner, report_errors
from reliability.fault_images import corrupt

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
        seconds = step_times(cfg, args.steps, folder)
        cost = parts(cfg, folder)
    step = statistics.median(seconds[OFF])
    ratios = [a / b for a, b in zip(seconds[ON], seconds[OFF])]
    low, _, high = statistics.quantiles(ratios, n=4)
    print(f'{args.steps} steps of each run, by turns: {1e3 * step:.1f} ms without, '
          f'{1e3 * statistics.median(seconds[ON]):.1f} ms with; ratio of neighbours '
          f'{statistics.median(ratios):.3f} (half of them in {low:.3f} to {high:.3f})')
    added = cost['generators'] + cost['indices']
    print(f'what it does in a step: {1e6 * cost["generators"]:.0f} us for generators, '
          f'{1e6 * cost["indices"]:.0f} us for indices: {added / step:.3%} of the step')
    print(f'and in a worker: {1e6 * cost["sample"]:.0f} us for a sample that takes '
          f'{1e6 * cost["loading"]:.0f} us to load: '
          f'{cost["sample"] / cost["loading"]:.2%}')
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


def parts(cfg: Config, folder: str) -> Dict[str, float]:
    """Seconds of what exact resume does, each on its own.

    Returns:
        dict[str, float]: ``generators`` and ``indices`` a step, in the process
        that trains; ``sample`` for seeding and ``loading`` for loading one, both
        in a dataloader worker.
    """
    own = Config(cfg.to_dict())
    own.update(work_dir=f'{folder}/parts', launcher='none', log_level='ERROR',
               experiment_name='parts', visualizer=None)
    loader = build_runner(own).train_dataloader
    loader.dataset.full_init()
    hook, runner = ExactResumeHook(), SimpleNamespace(seed=0, iter=0)
    worker = DataLoader(_Clock(loader.dataset), num_workers=1, batch_size=None)
    sample, loading = zip(*worker)
    return dict(
        generators=_each(lambda: hook.before_train_iter(runner, 0)),
        indices=_each(lambda: [SampleIndex(index, index)
                               for index in range(loader.batch_size)]),
        sample=statistics.median(sample), loading=statistics.median(loading))


def _each(function: Callable[[], object], times: int = 200) -> float:
    """Seconds of a call: the fastest round, which the machine disturbed least."""
    return min(timeit.repeat(function, number=times, repeat=10)) / times


class _Clock:
    """A data set whose samples are times, taken where it is read: in a worker."""

    def __init__(self, dataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Tuple[float, float]:
        def seed() -> None:
            with sample_generators(0, 0, index):
                pass

        return _each(seed), _each(lambda: self.dataset[index], 20)


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
