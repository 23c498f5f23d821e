#!/usr/bin/env python
"""Measure what exact resume costs; `--help` lists the options."""

import sys
from pathlib import Path

# A checkout runs without being installed, from any directory.
ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / 'tools'), str(ROOT / 'tests')]

from benchmarks.resume_cost import main  # noqa: E402

if __name__ == '__main__':
    sys.exit(main())
