"""Processes of one machine that play the ranks of a distributed run."""
import logging
import os
import pickle
import socket
from contextlib import contextmanager
from typing import Any, Callable, Iterator, List

import torch
import torch.multiprocessing as mp


@contextmanager
def without_log() -> Iterator[None]:
    """Leave out mmengine's page of log on each initialisation of a model."""
    logging.disable(logging.INFO)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def forkserver():
    """A context that forks from a server which has imported everything.

    It has done nothing else: no thread and no generator is inherited.
    """
    context = mp.get_context('forkserver')
    context.set_forkserver_preload([
        f'{__package__}.{name}'
        for name in ('kill_test', 'distributed_test', 'fault_test')])
    return context


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


def set_rank(rank: int, processes: int, port: int) -> None:
    """Make this process the one that ``torchrun`` would have started."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes),
        MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
    torch.set_num_threads(1)


def in_processes(function: Callable, processes: int, *args) -> List[Any]:
    """Call ``function(*args)`` in several processes joined by gloo.

    Args:
        function (callable): Of a module, so that the others can import it.
        processes (int): How many; with one there is no process group.
        *args: The same for all.

    Returns:
        list: What they returned, by rank.

    Raises:
        RuntimeError: If one of them failed; it has printed its traceback.
    """
    context, port = forkserver(), free_port()
    pipes = [context.Pipe(duplex=False) for _ in range(processes)]
    children = [
        context.Process(target=_play, args=(
            function, rank, processes, port, pipes[rank][1], args))
        for rank in range(processes)
    ]
    for child, (_, sender) in zip(children, pipes):
        child.start()
        sender.close()
    results = []
    try:
        for rank, (receiver, _) in enumerate(pipes):
            try:
                results.append(pickle.loads(receiver.recv_bytes()))
            except EOFError:
                raise RuntimeError(
                    f'Rank {rank} of {processes} failed in {function.__name__}.'
                ) from None
    finally:
        if len(results) < processes:
            for child in children:
                child.kill()
        for child in children:
            child.join()
    return results


def _play(function: Callable, rank: int, processes: int, port: int, sender,
          args: tuple) -> None:
    set_rank(rank, processes, port)
    if processes > 1:
        torch.distributed.init_process_group('gloo')
    result = function(*args)
    if processes > 1:
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()
    sender.send_bytes(pickle.dumps(result))  # tensors by value
