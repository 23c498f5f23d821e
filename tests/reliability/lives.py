"""Start a run in processes of this machine, until it ends, dies or is killed."""
import os
import signal
import socket
import sys
import tempfile
import time
from typing import Any, Callable, List, NamedTuple

import preloaded
import torch
from mmengine.config import Config

from mixedae_mm.launch import train as train_command

# Seconds of a life; usual are 5, on a GPU it compiles first.
LIMIT = 600 if torch.cuda.is_available() else 150


class Life(NamedTuple):
    """How a run ended, and what its rank 0 printed.

    ``hung``: a process did not end in time and was killed. On Python 3.11 a dataloader
    worker can wait for ever in its fork, if another thread starts at that moment: its
    interpreter copies a lock that is held. A hang of ours would come again.
    """
    statuses: List[int]  # exit status by rank; negative: by that signal
    said: str
    hung: bool = False


def live(cfg: Config, work_dir: str, *hooks: dict, processes: int = 1,
         options: tuple = ('--resume', ), launcher: str = '') -> Life:
    """Run ``tools/train.py --resume`` once, with further hooks.

    The config and what the processes print are kept beside the work folder.
    """
    cfg = Config(cfg.to_dict())
    cfg.custom_hooks = [*cfg.get('custom_hooks', []), *hooks]
    cfg.custom_imports = dict(imports=[
        *cfg.get('custom_imports', {}).get('imports', []), 'reliability.hooks'])
    cfg.dump(f'{work_dir}.py')
    launcher = launcher or ('pytorch' if processes > 1 else 'none')
    children = start(_train, processes, f'{work_dir}.said', [
        f'{work_dir}.py', '--work-dir', work_dir, '--launcher', launcher, *options])
    end = time.monotonic() + LIMIT
    while all(child.is_alive() for child in children) and time.monotonic() < end:
        time.sleep(0.02)
    killed = any(child.exitcode == -signal.SIGKILL for child in children)
    hung = False
    for child in children:
        child.join(0 if killed else max(0, end - time.monotonic()))
        hung = hung or not killed and child.is_alive()
        try:  # what is left of it, its loader workers included
            os.killpg(child.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        child.join()
    with open(f'{work_dir}.said0') as file:
        return Life([child.exitcode for child in children], file.read(), hung)


def in_processes(function: Callable, processes: int, *args) -> Any:
    """Call a function in several processes joined by gloo; return rank 0's result."""
    with tempfile.TemporaryDirectory() as folder:
        children = start(_call, processes, folder, function, args)
        for child in children:
            child.join(LIMIT)
            child.kill()
            child.join()  # killed, it has an exit code
        assert not any(child.exitcode for child in children), children
        return torch.load(f'{folder}/0', weights_only=False)


def start(target: Callable, processes: int, *args,
          process: Callable = preloaded.process) -> list:
    """Start ``target(rank, *args)`` with the environment that torchrun makes.

    ``process`` starts a function with its arguments in a process.
    """
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    return [process(_play, target, rank, processes, port, args)
            for rank in range(processes)]


def _play(target: Callable, rank: int, processes: int, port: int, args: tuple) -> None:
    os.setsid()
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)
    target(rank, *args)


def _train(rank: int, said: str, arguments: List[str]) -> None:
    output = open(f'{said}{rank}', 'w')
    os.dup2(output.fileno(), sys.stdout.fileno())
    os.dup2(output.fileno(), sys.stderr.fileno())
    sys.exit(train_command.main(arguments))


def _call(rank: int, folder: str, function: Callable, args: tuple) -> None:
    several = int(os.environ['WORLD_SIZE']) > 1
    if several:
        torch.distributed.init_process_group('gloo')
    torch.save(function(*args), f'{folder}/{rank}')
    if several:
        torch.distributed.barrier()
        # PyTorch 2.1 may wait for ever for a thread of a group that it destroys.
        os._exit(0)
