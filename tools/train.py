#!/usr/bin/env python
"""Train a model; `--help` lists the options."""

import sys
from pathlib import Path

# A checkout runs without being installed, from any directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mixedae_mm.launch.train import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
