"""One output of a model before and after it was written in another way."""
from typing import NamedTuple

# Two libraries differ only in the order of sums. A wrong weight, number of heads or
# epsilon changes features, which are of order 1, by far more than this.
LARGEST_DIFFERENCE = 1e-3


class Comparison(NamedTuple):
    """Largest difference of an output."""
    name: str  # of the output, or of the size it was computed at
    difference: float  # largest absolute one
    largest: float  # absolute value, for comparison

    def is_small(self) -> bool:
        """Whether the two are the same but for rounding; False for NaN."""
        return self.difference <= LARGEST_DIFFERENCE * max(1, self.largest)

    def __str__(self) -> str:
        return f'{self.name} {self.difference:.1e} (values to {self.largest:.2g})'
