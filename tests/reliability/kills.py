"""Kill a run again and again, and compare how it ends with one that lives."""
import json
import os.path as osp
import random
import shutil
import signal

from .hooks import PHASES
from .lives import live
from .traces import traces


def kill_and_compare(cfg, folder, processes=1, kills=3, phases=PHASES):
    """Let one run live and one die in the phases by turns, and compare what they leave.

    Returns:
        str: Where the kills were and what is equal.
    """
    log, dying = osp.join(folder, 'kills.jsonl'), osp.join(folder, 'interrupted')
    living = osp.join(folder, 'uninterrupted')

    def life_of(work_dir, **point):
        return live(cfg, work_dir, dict(type='KillPointHook', log=log, **point),
                    processes=processes)

    def whole_life_of(work_dir):
        life = life_of(work_dir)
        if life.hung:
            if work_dir == living:
                shutil.rmtree(living)
            life = life_of(work_dir)
        assert not any(life.statuses), life.said
        return life

    whole_life_of(living)
    deaths = []
    for point in kill_points(_last(log), processes, kills, phases):
        life = life_of(dying, **point)
        if -signal.SIGKILL not in life.statuses:
            break  # the run ended before its kill
        # A run that hangs is killed from outside.
        deaths.append('a hang' if life.hung else _last(log)['where'])
    life = whole_life_of(dying)
    assert deaths, 'the run was never killed'
    expected, found = traces(living), traces(dying)
    assert found == expected, life.said
    places = ', '.join(f'{place} {deaths.count(place)}'
                       for place in dict.fromkeys([*PHASES, 'between', *deaths]))
    return f'killed in {places}; equal: {", ".join(expected)}'


def kill_points(durations, processes, kills, phases):
    """Draw random moments, by turns in those phases that the run has."""
    draw = random.Random(0)
    phases = [phase for phase in phases if phase in durations]
    iterations = sorted(draw.randrange(durations['iterations']) for _ in range(kills))
    for number, iteration in enumerate(iterations):
        phase = phases[number % len(phases)]
        yield dict(phase=phase, iteration=iteration,
                   delay=draw.uniform(0, durations[phase]),
                   rank=0 if phase == 'write' else draw.randrange(processes))


def _last(log):
    with open(log) as file:
        return json.loads(file.readlines()[-1])
