"""Checkpoint files read as data: tensors and containers, never code."""
import io
import os
import pickle
import re
from urllib.parse import urlparse

import torch
from mmengine import dist, fileio

from ..utils.errors import ConfigurationError

# What mmengine saves beside the weights: its log buffers and NumPy numbers.
# Nobody needs them to load weights, so each is read as an empty stand-in and
# the function or class of that name (``getattr``!) is never touched.
SKIPPED_TYPES = (
    'mmengine.logging.history_buffer.HistoryBuffer',
    'builtins.getattr',
    'builtins.slice',
    '_codecs.encode',
    'numpy.ndarray',
    'numpy.dtype',
    'numpy.core.multiarray._reconstruct',
    'numpy.core.multiarray.scalar',
    'numpy._core.multiarray._reconstruct',
    'numpy._core.multiarray.scalar',
)


def read_checkpoint(path: str) -> dict:
    """Read a checkpoint onto the CPU without running anything it contains.

    Args:
        path (str): A file of ``torch.save`` or a ``.safetensors`` file; a
            local path, an http(s) address (kept in the cache of
            ``torch.hub``), or what else mmengine's file backends read.

    Returns:
        dict: What was saved. mmengine's log buffers and NumPy values in it
        are empty stand-ins.

    Raises:
        ConfigurationError: If the file does not exist, is truncated or no
            checkpoint at all, or would execute code when unpickled.
    """
    file = _open(path)
    if str(path).endswith('.safetensors'):
        return _read_safetensors(path, file)
    try:
        checkpoint = _unpickle(file)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError,
            TypeError, KeyError, OSError) as error:
        code = re.search(r'GLOBAL (\S+)', str(error))
        if code is None:
            raise ConfigurationError(
                f'{path} is no readable checkpoint; it may be truncated, or '
                'another kind of file.') from error
        raise ConfigurationError(
            f'{path} was not loaded because that would run code: it names '
            f'{code[1]}. If you trust the file, save its weights alone and '
            "use those: torch.save(torch.load('FILE', weights_only=False)"
            "['state_dict'], 'weights.pth').") from None
    if not isinstance(checkpoint, dict):
        raise ConfigurationError(
            f'{path} holds a {type(checkpoint).__name__}, but a checkpoint is '
            'a dict of weights or has one under "state_dict".')
    return checkpoint


def read_weights(path: str) -> dict:
    """The weights in a checkpoint, by name.

    Args:
        path (str): As in :func:`read_checkpoint`.

    Returns:
        dict[str, Tensor]: Of ``state_dict`` (mmengine), ``model`` (Meta,
        timm), or the file itself.

    Raises:
        ConfigurationError: As :func:`read_checkpoint`, and if there are no
            weights or some are not finite floating-point numbers.
    """
    checkpoint = read_checkpoint(path)
    for key in ('state_dict', 'model'):
        if isinstance(checkpoint.get(key), dict):
            checkpoint = checkpoint[key]
            break
    weights = {
        name: value.data
        for name, value in checkpoint.items()
        if isinstance(value, torch.Tensor)
    }
    if not weights:
        raise ConfigurationError(f'{path} holds no weights.')
    broken = [
        name for name, value in weights.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise ConfigurationError(
            f'{path} holds NaN or infinite values in {len(broken)} of '
            f'{len(weights)} tensors ({broken[0]} first): its run diverged.')
    return weights


class _Skipped:
    """Stands for an object that is not needed; takes and keeps nothing."""

    def __new__(cls, *args, **kwargs):
        return super().__new__(cls)

    def __init__(self, *args, **kwargs) -> None:
        pass

    def __setstate__(self, state) -> None:
        pass


class _DataOnlyPickle:
    """What ``torch.load`` takes for ``pickle`` where it cannot be told names.

    Before PyTorch 2.6 ``weights_only=True`` knows no exceptions and refuses
    every checkpoint of mmengine. The same rule by the documented way to
    restrict what a pickle may name.
    """
    # Those of later PyTorch; the Counter is a schedule's milestones.
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
                return _Skipped
            if full_name in _DataOnlyPickle.ALLOWED:
                return super().find_class(module, name)
            raise pickle.UnpicklingError(f'GLOBAL {full_name}')

    @classmethod
    def load(cls, file, **kwargs):
        return cls.Unpickler(file, **kwargs).load()


def _unpickle(file):
    if tuple(map(int, torch.__version__.split('.')[:2])) < (2, 6):
        return torch.load(
            file, map_location='cpu', pickle_module=_DataOnlyPickle)
    skipped = [(_Skipped, name) for name in SKIPPED_TYPES]
    with torch.serialization.safe_globals(skipped):
        return torch.load(file, map_location='cpu', weights_only=True)


def _read_safetensors(path, file) -> dict:
    try:
        from safetensors.torch import load
    except ImportError:
        raise ConfigurationError(
            f'{path} needs the safetensors package: pip install safetensors.'
        ) from None
    data = file.read() if hasattr(file, 'read') else fileio.get(file)
    try:
        return load(data)
    except Exception as error:  # its own error type, which it does not export
        raise ConfigurationError(
            f'{path} is no readable safetensors file; it may be truncated.'
        ) from error


def _open(path: str):
    """A local path or the bytes of a remote file, as ``torch.load`` takes."""
    if not path:
        raise ConfigurationError(
            "init_cfg = dict(type='Pretrained') needs the path of a file as "
            'checkpoint; init_cfg = None starts from random weights.')
    path = os.path.expanduser(str(path))
    if '://' not in path:
        if not os.path.isfile(path):
            raise ConfigurationError(f'The checkpoint {path} does not exist.')
        return path
    if not path.startswith(('http://', 'https://')):
        return io.BytesIO(fileio.get(path))
    local = os.path.join(torch.hub.get_dir(), 'checkpoints',
                         os.path.basename(urlparse(path).path))
    # One download a machine; the other processes wait for it.
    if os.environ.get('LOCAL_RANK', '0') == '0' and not os.path.isfile(local):
        os.makedirs(os.path.dirname(local), exist_ok=True)
        torch.hub.download_url_to_file(path, local)
    dist.barrier()
    return local

