"""What became of the tensors of a checkpoint, for one line of the log."""
import re
from typing import List, NamedTuple, Sequence


class LoadReport(NamedTuple):
    """What became of each tensor.

    Attributes:
        what (str): What was loaded: ``'backbone'`` or another part.
        num_loaded (int): Its tensors taken from the checkpoint.
        num_total (int): Its tensors.
        resized (list[str]): What was made for another grid, with both grids.
        new (list[str]): Parts of the model that the checkpoint lacks.
        ignored (list[str]): Parts of the checkpoint without use here.
        converted (str): Whose names the checkpoint has, if not mmpretrain's.
    """
    what: str
    num_loaded: int
    num_total: int
    resized: List[str]
    new: List[str]
    ignored: List[str]
    converted: str = ''

    def __str__(self) -> str:
        parts = [
            f'loaded {self.num_loaded} of {self.num_total} {self.what} tensors'
        ]
        if self.converted:
            parts[0] += f' from the names of {self.converted}'
        if self.resized:
            parts.append('resized ' + ', '.join(self.resized))
        if self.new:
            parts.append('new, not in the checkpoint: ' + ', '.join(self.new))
        if self.ignored:
            parts.append('ignored: ' + ', '.join(self.ignored))
        return '; '.join(parts)


def short_names(names: Sequence[str]) -> List[str]:
    """Shorten names of tensors, and name each only once.

    >>> short_names(['layers.0.ln1.weight', 'layers.1.ln1.bias', 'cls_token'])
    ['layers.*.ln1', 'cls_token']
    """
    short = [re.sub(r'\.(weight|bias)$', '', name) for name in names]
    short = [re.sub(r'(^|\.)layers\.\d+', r'\1layers.*', name) for name in short]
    return list(dict.fromkeys(short))
