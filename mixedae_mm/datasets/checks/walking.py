"""Find the data sets inside wrappers, and what they say of themselves."""
from typing import Any, Iterator, List, Optional, Sequence, TypeGuard

from torch.utils.data import Dataset

# A data set of any toolbox: PyTorch's class declares none of what they have.
ToolboxDataset = Any


def leaves(dataset: Dataset) -> Iterator[ToolboxDataset]:
    """The data sets inside of wrappers, such as those that repeat or combine."""
    part = getattr(dataset, 'dataset', None)
    parts = getattr(dataset, 'datasets', None) or ([] if part is None else [part])
    if not parts:
        yield dataset
    for part in parts:
        yield from leaves(part)


def leaf_configs(dataset: Any) -> Iterator[dict]:
    """Configs of the data sets inside of wrappers, as :func:`leaves` of built ones."""
    if not isinstance(dataset, dict):  # built already
        return
    parts = dataset.get('datasets') or dataset.get('dataset')
    inside = [part for part in (parts if isinstance(parts, (list, tuple)) else [parts])
              if isinstance(part, dict)]
    if not inside:
        yield dataset
    for part in inside:
        yield from leaf_configs(part)


def sample_infos(dataset: ToolboxDataset, count: int = 8) -> List[dict]:
    """What a data set knows of at most ``count`` of its samples before loading."""
    if not hasattr(dataset, 'get_data_info'):
        return []
    length = len(dataset)
    count = min(length, count)
    return [dataset.get_data_info(i * length // count) for i in range(count)]


def declared_names(dataset: Dataset) -> Optional[Sequence[str]]:
    """The classes in a data set's meta information, in the order of labels."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def place_of(dataset: ToolboxDataset) -> str:
    """The annotation file or folder that the labels of a data set come from."""
    prefix = getattr(dataset, 'data_prefix', None) or {}
    folder = prefix.get('img_path') or prefix.get('img') if isinstance(
        prefix, dict) else prefix
    return (getattr(dataset, 'ann_file', '') or folder
            or getattr(dataset, 'data_root', '') or type(dataset).__name__)


def is_local(path: Any) -> TypeGuard[str]:
    """Whether something is a path of this machine, not an address; None is not."""
    return bool(path) and '://' not in str(path)
