"""What a stranger may put into a checkpoint."""
import os


class Malicious:
    """Makes the folder ``executed`` when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ('executed', )
