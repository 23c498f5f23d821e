"""Numbers that all processes of a data loader see."""
from typing import Sequence, Union

import torch


class SharedNumbers:
    """A few integers in memory shared with the workers of data loaders.

    A deep copy has shared memory of its own. A deep copy of a tensor would be in
    private memory, and what the main process writes would not reach the workers.
    """

    def __init__(self, values: Union[Sequence[int], torch.Tensor],
                 dtype: torch.dtype = torch.int64):
        self.tensor = torch.as_tensor(values, dtype=dtype).clone().share_memory_()

    def __deepcopy__(self, memo):
        return type(self)(self.tensor, self.tensor.dtype)
