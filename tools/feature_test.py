#!/usr/bin/env python
"""Extract features of many images, kill it, go on; `--help` lists the options."""

import sys
from pathlib import Path

# A checkout runs without being installed, from any directory.
ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / 'tests'), str(ROOT / 'tools')]

from mixedae_mm.launch.entry import report_errors  # noqa: E402
from reliability.feature_harness import parse_arguments, run  # noqa: E402

if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
