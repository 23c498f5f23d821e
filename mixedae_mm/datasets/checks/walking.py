"""Through wrappers to the data sets inside, and to a few of their samples."""
from typing import Iterator, List, Sequence

from torch.utils.data import Dataset


def leaves(dataset: Dataset) -> Iterator[Dataset]:
    """The data sets inside of wrappers, such as those that repeat or combine."""
    parts = getattr(dataset, 'datasets', None)
    if parts is None:
        part = getattr(dataset, 'dataset', None)
        parts = [] if part is None else [part]
    if not parts:
        yield dataset
    for part in parts:
        yield from leaves(part)


def spread(length: int, count: int) -> Sequence[int]:
    """At most ``count`` indices, evenly spread over ``range(length)``."""
    count = min(length, count)
    return [index * length // count for index in range(count)]


def sample_infos(dataset: Dataset, count: int) -> List[dict]:
    """What the data set knows of at most ``count`` of its samples, unloaded."""
    if not hasattr(dataset, 'get_data_info'):
        return []
    return [dataset.get_data_info(index) for index in spread(len(dataset), count)]


def place_of(dataset: Dataset) -> str:
    """Where a data set's labels come from: annotation file or folder."""
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folder = prefix.get('img_path') or prefix.get('img') if isinstance(
        prefix, dict) else prefix
    return (getattr(dataset, 'ann_file', '') or folder
            or getattr(dataset, 'data_root', '') or type(dataset).__name__)


def is_local(path) -> bool:
    return bool(path) and '://' not in str(path)
