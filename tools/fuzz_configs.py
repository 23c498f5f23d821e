#!/usr/bin/env python
"""Train a step with random configurations; `--help` lists the options."""

import sys
from pathlib import Path

# A checkout runs without being installed, from any directory.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'tools')]

from reliability.config_fuzzer import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
