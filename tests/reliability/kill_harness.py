"""The kill test: does a run that dies again and again end as one that lives?"""
import argparse
import json
import os
import os.path as osp
import random
import shutil
import signal
import sys
import tempfile
import time
from typing import Dict, List, Optional, Sequence

from mmengine.config import Config, DictAction

from mixedae_mm.launch.entry import build_runner, report_errors
from .kill_points import PHASES, KillPoint, KillPointHook, traces
from .kill_test_configs import BUILT_IN
from .processes import forkserver, free_port, set_rank

PARTS = ('weights', 'ema', 'optimizer', 'schedules', 'losses', 'order')


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the test as the command line says; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'config', nargs='?', help='config to test; without it, two small ones of '
        'our own: pre-training by iterations and classification by epochs')
    parser.add_argument('--processes', type=int, nargs='+', default=[1, 2],
                        metavar='N', help='numbers of processes to test (default: 1 2)')
    parser.add_argument('--kills', type=int, default=6, metavar='N',
                        help='kills of each tested run (default: 6)')
    parser.add_argument('--seed', type=int, default=0, help='of the kill points')
    parser.add_argument('--work-dir', help='folder for the runs, emptied first '
                        '(default: a temporary one)')
    parser.add_argument('--cfg-options', nargs='+', action=DictAction, default={},
                        metavar='KEY=VALUE', help='override settings of the config')
    args = parser.parse_args(argv)
    args.all_equal = True
    return report_errors(run, args) or int(not args.all_equal)


def run(args: argparse.Namespace) -> None:
    """Test each config with each number of processes, and print the table."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = osp.abspath(args.work_dir or temporary)
        if args.work_dir:
            shutil.rmtree(folder, ignore_errors=True)
            os.makedirs(folder)
        rows = []
        for name, cfg in _configs(args, folder).items():
            for processes in args.processes:
                test = KillTest(
                    cfg, processes, osp.join(folder, name, str(processes)),
                    f'{name}, {processes} process' + 'es' * (processes > 1))
                rows.append(test.run(args.kills, random.Random(args.seed)))
    print(table(rows), flush=True)
    args.all_equal = all(row.equal for row in rows)


class KillTest:
    """One config with one number of processes.

    Args:
        cfg (Config): Of the run.
        processes (int): How many it has.
        folder (str): For its work folders and logs.
        title (str): For people.
    """

    def __init__(self, cfg: Config, processes: int, folder: str, title: str) -> None:
        self.cfg, self.processes = cfg, processes
        self.folder, self.title = folder, title
        self.log = osp.join(folder, 'log.jsonl')
        self.deaths: List[dict] = []
        os.makedirs(folder)

    def run(self, kills: int, chance: random.Random) -> 'KillTest':
        """Let one run live and one die, and compare what they leave."""
        self._say('the uninterrupted run')
        self._live('uninterrupted', None)
        durations = self._log_entries()[-1]
        if 'exact_resume' in durations:
            step, cost = durations['step'], durations['exact_resume']
            self._say(f'a step takes {1e3 * step:.1f} ms, of which exact resume '
                      f'{1e6 * cost:.0f} us ({cost / step:.2%})')
        for number, point in enumerate(self._draw(kills, durations, chance), 1):
            if not self._live('interrupted', point):
                break  # it was too late: the run had ended
            self.deaths.append(self._log_entries()[-1])
            self._say('kill {} of {}: {where}, iteration {iteration}, rank {rank}'
                      .format(number, kills, **self.deaths[-1]))
        self._live('interrupted', None)
        expected = traces(osp.join(self.folder, 'uninterrupted'))
        found = traces(osp.join(self.folder, 'interrupted'))
        self.differs = {part: found[part] != expected[part] for part in expected}
        self._say(f'weights {expected["weights"]} uninterrupted, '
                  f'{found["weights"]} interrupted')
        return self

    @property
    def equal(self) -> bool:
        return not any(self.differs.values())

    def _draw(self, kills: int, durations: Dict[str, float],
              chance: random.Random) -> List[KillPoint]:
        """Random points, by turns in all phases that the run has."""
        phases = [phase for phase in PHASES if phase in durations]
        moments = sorted(chance.randrange(int(durations['iterations']))
                         for _ in range(kills))
        points = []
        for number, iteration in enumerate(moments):
            phase = phases[number % len(phases)]
            points.append(KillPoint(
                phase, iteration, chance.uniform(0, durations[phase]),
                0 if phase == 'write' else chance.randrange(self.processes)))
        return points

    def _live(self, name: str, point: Optional[KillPoint]) -> bool:
        """One life of a run; returns whether it was killed."""
        port, context = free_port(), forkserver()
        processes = [
            context.Process(target=_life, args=(
                self.cfg.to_dict(), osp.join(self.folder, name), rank,
                self.processes, port, point, self.log))
            for rank in range(self.processes)
        ]
        for process in processes:
            process.start()
        while all(process.is_alive() for process in processes):
            time.sleep(0.02)
        killed = any(process.exitcode == -signal.SIGKILL for process in processes)
        for process in processes:
            process.join(0 if killed else None)
            try:  # what is left of a killed run, its loader workers included
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            process.join()
        if not killed and any(process.exitcode for process in processes):
            raise RuntimeError(
                f'The {name} run of {self.title} failed; see {self.folder}.')
        return killed

    def _log_entries(self) -> List[dict]:
        with open(self.log) as file:
            return [json.loads(line) for line in file]

    def _say(self, text: str) -> None:
        print(f'{self.title}: {text}', flush=True)


def table(tests: List[KillTest]) -> str:
    """Where the kills were and what is equal, one line for each test."""
    places = (*PHASES, 'between')
    head = ['killed in:', *places, 'equal:', *PARTS]
    rows = [head]
    for test in tests:
        found = [death['where'] for death in test.deaths]
        counts = [found.count(phase) for phase in PHASES]
        counts.append(len(found) - sum(counts))
        verdicts = [
            {True: 'NO', False: 'yes', None: '-'}[test.differs.get(part)]
            for part in PARTS
        ]
        rows.append([test.title, *map(str, counts), '', *verdicts])
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = ['  '.join([row[0].ljust(widths[0])] + [
        cell.rjust(width) for cell, width in zip(row[1:], widths[1:])])
        for row in rows]
    kills = sum(len(test.deaths) for test in tests)
    lines.append(f'{kills} kills: ' + (
        'every run ended as if it had never been killed.'
        if all(test.equal for test in tests) else 'NOT ALL RUNS ENDED EQUAL.'))
    return '\n'.join(lines)


def _configs(args: argparse.Namespace, folder: str) -> Dict[str, Config]:
    if args.config:
        configs = {osp.splitext(osp.basename(args.config))[0]:
                   Config.fromfile(args.config)}
    else:
        configs = {name: make(osp.join(folder, 'images'))
                   for name, make in BUILT_IN.items()}
    for cfg in configs.values():
        cfg.merge_from_dict(args.cfg_options)
    return configs


def _life(cfg: dict, work_dir: str, rank: int, processes: int, port: int,
          point: Optional[KillPoint], log: str) -> None:
    """A process of a run, from start to end or to the kill point."""
    os.setsid()
    os.makedirs(work_dir, exist_ok=True)
    output = open(osp.join(work_dir, f'output_rank_{rank}.txt'), 'a')
    os.dup2(output.fileno(), sys.stdout.fileno())
    os.dup2(output.fileno(), sys.stderr.fileno())
    set_rank(rank, processes, port)
    cfg = Config(dict(
        cfg, work_dir=work_dir, resume=True,
        launcher='pytorch' if processes > 1 else 'none'))
    runner = build_runner(cfg)
    runner.register_hook(KillPointHook(point, log))
    runner.train()
