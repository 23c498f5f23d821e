"""Do runs harm and show what happens: full disk, signals, dead workers, bad files."""
import argparse
import os
import os.path as osp
import re
import shutil
import subprocess
import sys
import tempfile
from typing import Callable, Dict, List, NamedTuple, Optional, Sequence

from mmengine.config import Config

from mixedae_mm.datasets import UnreadableImageError, decode_rgb
from mixedae_mm.launch import train as launch_train
from mixedae_mm.launch.entry import report_errors
from .fault_hook import FaultHook  # noqa: F401  registers it
from .fault_images import awkward, corrupt
from .kill_points import traces
from .kill_test_configs import pretraining
from .processes import forkserver

PREFIX = re.compile(r'^\d\d/\d\d \d\d:\d\d:\d\d - mmengine - ')


class Life(NamedTuple):
    """How one life of a run ended, and all that it printed."""
    status: Optional[int]  # of the process; negative: by a signal; None: it hung
    said: str


class Outcome(NamedTuple):
    """What a fault led to."""
    happened: List[str]  # for people, a line each
    said: str  # by all lives
    expected: List[str]  # what must be among that

    @property
    def missing(self) -> List[str]:
        return [text for text in self.expected if text not in self.said]

    def messages(self) -> List[str]:
        """The lines with what was expected, each kind once."""
        lines = [PREFIX.sub('', text) for text in self.said.splitlines()]
        found = [next((line for line in reversed(lines) if text in line), text)
                 for text in self.expected if text not in self.missing]
        return list(dict.fromkeys(found))  # one line may hold several


class NotTried(Exception):
    """Why a fault cannot be made here."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the test as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('faults', nargs='*', metavar='FAULT',
                        help=f'some of {", ".join(FAULTS)} (default: all)')
    parser.add_argument('--work-dir', help='folder for the runs, emptied first '
                        '(default: a temporary one)')
    args = parser.parse_args(argv)
    unknown = set(args.faults) - set(FAULTS)
    if unknown:
        parser.error(f'there is no fault {", ".join(sorted(unknown))}')
    args.failed = []
    return report_errors(_run, args) or int(bool(args.failed))


def _run(args: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = osp.abspath(args.work_dir or temporary)
        shutil.rmtree(folder, ignore_errors=True)
        for name in args.faults or FAULTS:
            os.makedirs(osp.join(folder, name))
            print(f'{name}: {FAULTS[name].__doc__}')
            try:
                outcome = FAULTS[name](Runs(osp.join(folder, name)))
            except NotTried as reason:
                print(f'  NOT TRIED: {reason}', flush=True)
                continue
            for text in outcome.happened:
                print(f'  {text}')
            for text in outcome.messages():
                print(f'    | {text}')
            for text in outcome.missing:
                print(f'  FAILED: nothing was said of "{text}"', flush=True)
                args.failed.append(name)


class Runs:
    """Lives of a small pre-training run, and what to compare them with.

    Args:
        folder (str): For its images and work folders. The unharmed run is made
            once, beside it.
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.images = osp.join(folder, 'images')
        self.work_dir = osp.join(folder, 'run')

    def live(self, *faults: dict, work_dir: Optional[str] = None, **dataset) -> Life:
        """One life; it resumes what is there.

        Args:
            *faults (dict): Arguments of :class:`.FaultHook`.
            work_dir (str, optional): Another one.
            **dataset: Options of the data set.
        """
        cfg = pretraining(self.images)
        cfg.custom_imports = dict(imports=['mixedae_mm'])
        cfg.custom_hooks += [dict(type='FaultHook', **fault) for fault in faults]
        cfg.train_dataloader.dataset.update(dataset)
        path, log = osp.join(self.folder, 'run.py'), osp.join(self.folder, 'said.txt')
        Config(cfg.to_dict()).dump(path)
        process = forkserver().Process(
            target=_train, args=(path, work_dir or self.work_dir, log))
        process.start()
        process.join(300)
        status = process.exitcode
        process.kill()
        with open(log) as file:
            return Life(status, file.read())

    def is_equal(self) -> str:
        """Whether the run ended as one that nobody did harm."""
        reference = osp.join(osp.dirname(self.folder), 'unharmed')
        if not osp.isdir(reference) and self.live(work_dir=reference).status != 0:
            raise RuntimeError(f'The unharmed run failed; see {self.folder}.')
        parts = traces(reference)
        found = traces(self.work_dir)
        differs = [name for name in parts if parts[name] != found[name]]
        return (f'{", ".join(differs)} DIFFER from the unharmed run' if differs else
                f'{", ".join(parts)} equal those of an unharmed run, bit for bit')


def _train(config: str, work_dir: str, log: str) -> None:
    output = open(log, 'w')
    os.dup2(output.fileno(), sys.stdout.fileno())
    os.dup2(output.fileno(), sys.stderr.fileno())
    sys.exit(launch_train.main([config, '--work-dir', work_dir, '--resume']))


def full_disk(runs: Runs) -> Outcome:
    """The disk is full for some iterations, a checkpoint's among them."""
    os.makedirs(runs.work_dir)
    mounted = subprocess.run(
        ['mount', '-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', runs.work_dir],
        capture_output=True, text=True)
    if mounted.returncode:
        raise NotTried('a small tmpfs could not be mounted '
                       f'({mounted.stderr.strip()}); '
                       'unshare --map-root-user --mount COMMAND may help.')
    try:
        life = runs.live(dict(iteration=10, what='fill'),
                         dict(iteration=16, what='free'))
        return Outcome(
            [f'one life, exit status {life.status}', runs.is_equal()],
            life.said, ['Could not write', 'newest complete checkpoint is'])
    finally:
        subprocess.run(['umount', runs.work_dir], check=True)


def truncated_checkpoint(runs: Runs) -> Outcome:
    """The newest checkpoint of a killed run is cut in the middle."""
    first = runs.live(dict(iteration=20, what='kill'))
    newest = osp.join(runs.work_dir, 'iter_14.pth')
    os.truncate(newest, osp.getsize(newest) // 2)
    return _resumed(runs, first, ['is incomplete', 'Resuming from'])


def sigterm(runs: Runs) -> Outcome:
    """SIGTERM, of a scheduler that wants the machine back."""
    return _signalled(runs, 'SIGTERM')


def sigusr1(runs: Runs) -> Outcome:
    """SIGUSR1, of SLURM before the time limit."""
    return _signalled(runs, 'SIGUSR1')


def dead_worker(runs: Runs) -> Outcome:
    """A dataloader worker is killed, as when memory runs out."""
    first = runs.live(dict(iteration=10, what='worker'))
    outcome = _resumed(runs, first, ['resumed epoch'])
    last = first.said.strip().splitlines()[-1]
    return outcome._replace(happened=[*outcome.happened, f'its last words: {last}'])


def nan_loss(runs: Runs) -> Outcome:
    """A weight becomes NaN."""
    life = runs.live(dict(iteration=10, what='poison'))
    return Outcome([f'exit status {life.status}'], life.said, [
        'is not finite', 'Training stops'])


def corrupt_images(runs: Runs) -> Outcome:
    """One image in twenty is damaged."""
    os.makedirs(runs.images)
    corrupt(runs.images, 400, 20)
    first = runs.live()
    second = runs.live(max_bad_share=0.1)
    return Outcome(
        [f'with the default policy (1 %): exit status {first.status}',
         f'with max_bad_share=0.1: exit status {second.status}, '
         f'{second.said.count("Skipped an unreadable image")} images skipped'],
        first.said + second.said,
        ['Skipped an unreadable image', 'are unreadable (', 'raise max_bad_share'])


def awkward_images(runs: Runs) -> Outcome:
    """Files that a folder of images should not have, but has."""
    os.makedirs(runs.images)
    corrupt(runs.images, 40, 0)
    kinds = awkward(runs.images)
    life = runs.live(max_bad_share=0.9)
    happened, refused = [f'training with them: exit status {life.status}'], []
    for name, kind in kinds.items():
        path = osp.join(runs.images, name)
        try:
            with open(path, 'rb') as file:
                _, height, width = decode_rgb(file.read(), path).shape
            happened.append(f'{kind}: used, {width} x {height}')
        except UnreadableImageError:
            happened.append(f'{kind}: skipped')
            refused.append(f'Cannot read the image {path}')
    return Outcome(happened, life.said, refused)


FAULTS: Dict[str, Callable[[Runs], Outcome]] = {
    fault.__name__: fault for fault in (
        full_disk, truncated_checkpoint, sigterm, sigusr1, dead_worker, nan_loss,
        corrupt_images, awkward_images)
}


def _signalled(runs: Runs, name: str) -> Outcome:
    first = runs.live(dict(iteration=10, what='signal', name=name))
    return _resumed(runs, first, [f'{name}: saving', 'Exiting with code 75'])


def _resumed(runs: Runs, first: Life, expected: List[str]) -> Outcome:
    second = runs.live()
    return Outcome(
        [f'first life: exit status {first.status}; resumed: {second.status}',
         runs.is_equal()], first.said + second.said, expected)
