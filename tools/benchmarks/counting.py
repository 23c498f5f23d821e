"""Count what a training step does: operators, FLOP, and on a GPU its kernels."""
import json
import tempfile
from pathlib import Path
from typing import Callable, Dict, Tuple

import torch
from torch.utils import flop_counter
from torch.utils._python_dispatch import TorchDispatchMode

FORMULAS = getattr(flop_counter, 'flop_registry', {})  # PyTorch 2.2


class _Counter(TorchDispatchMode):
    """Count dispatched operators, and the FLOP of products and attention."""

    operators = flops = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        self.operators += 1
        packet = func._overloadpacket
        name = str(packet)
        if 'attention' in name:
            # Two products of (N, D) and (D, N) forward, four backward. PyTorch's own
            # formulas know neither our operator nor that of the CPU.
            is_backward = 'backward' in name
            query, key = args[1:3] if is_backward else args[:2]
            self.flops += (8 if is_backward else 4) * query.numel() * key.shape[-2]
        elif packet in FORMULAS:
            self.flops += FORMULAS[packet](*args, **(kwargs or {}), out_val=result)
        return result


def count_operators(run: Callable[[], None]) -> Tuple[int, int]:
    """Return the operators that a run dispatches below autograd, and their FLOP."""
    with _Counter() as counter:
        run()
    return counter.operators, counter.flops


def profile_kernels(run: Callable[[], None], steps: int) -> Dict[str, float]:
    """Profile a run of some steps on a GPU; see :func:`kernels_in`."""
    torch.cuda.synchronize()
    with torch.profiler.profile(
            activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, 'trace.json')
        profile.export_chrome_trace(str(file))
        return kernels_in(json.loads(file.read_text()), steps)


def kernels_in(trace: dict, steps: int) -> Dict[str, float]:
    """Per step the sum of kernel times of a trace, and launches by the host.

    A CUDA graph of many kernels is one launch.
    """
    kernels = [event for event in trace['traceEvents']
               if event.get('cat') == 'kernel']
    calls = {event['args']['correlation'] for event in kernels}
    return dict(
        kernels_s=sum(event['dur'] for event in kernels) / 1e6 / steps,
        launches=round(len(calls) / steps))
