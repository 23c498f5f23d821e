#!/usr/bin/env python
"""Do runs harm and show what happens; `--help` lists the options."""

import sys
from pathlib import Path

# A checkout runs without being installed, from any directory.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'tools')]

from reliability.fault_harness import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
