"""Unpickle tensors and containers without running code."""
import pickle
from typing import Any, BinaryIO

import torch

from ..utils.checkpoint_files import StandIn
from ..utils.machine import pytorch_is

# What training scripts save beside the weights: mmengine's log buffers, NumPy
# numbers, the parsed command line of Meta's scripts. Loading weights does not need
# them. Each is read as an empty stand-in, and the function or class of that name,
# such as ``getattr``, is never touched.
SKIPPED_TYPES = (
    'mmengine.logging.history_buffer.HistoryBuffer', 'argparse.Namespace',
    'builtins.getattr', 'builtins.slice', '_codecs.encode', 'numpy.ndarray',
    'numpy.dtype', 'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar', 'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar')


def unpickle(file: BinaryIO) -> Any:
    """Read what ``torch.save`` wrote, onto the CPU.

    Raises:
        pickle.UnpicklingError: If it names anything but data; the message has
            ``GLOBAL`` before the name.
        Exception: Whatever a damaged file leads to.
    """
    if not pytorch_is('2.6'):
        return torch.load(file, map_location='cpu', pickle_module=DataOnlyPickle)
    skipped: list = [(StandIn, name) for name in SKIPPED_TYPES]
    with torch.serialization.safe_globals(skipped):
        return torch.load(file, map_location='cpu', weights_only=True)


class DataOnlyPickle:
    """A ``pickle_module`` of ``torch.load`` for PyTorch before 2.6.

    There ``weights_only=True`` cannot be told which names to skip, and refuses
    every checkpoint of mmengine. This is the same rule, by the way that Python
    documents to restrict what a pickle may name.
    """
    # What later versions of PyTorch allow. A schedule's milestones are a Counter.
    ALLOWED = ('collections.OrderedDict', 'collections.Counter', 'builtins.set',
               'builtins.complex', 'torch._utils._rebuild_tensor_v2',
               'torch._utils._rebuild_parameter', 'torch.Size', 'torch.device',
               *(str(value) for value in vars(torch).values()
                 if isinstance(value, torch.dtype)))

    class Unpickler(pickle.Unpickler):

        def find_class(self, module, name):
            module = module.replace('__builtin__', 'builtins')
            full_name = f'{module}.{name}'
            if full_name in SKIPPED_TYPES:
                return StandIn
            if full_name in DataOnlyPickle.ALLOWED:
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f'GLOBAL {full_name}')

    @classmethod
    def load(cls, file, **kwargs):
        return cls.Unpickler(file, **kwargs).load()
