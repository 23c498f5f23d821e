#!/usr/bin/env python
"""Extract features of many images, kill it, go on; `--help` lists the options."""

import sys
from pathlib import Path

# A checkout runs without being installed, from any directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mixedae_mm.engine.launch import report_errors  # noqa: E402
from mixedae_mm.interop.feature_test import parse_arguments, run  # noqa: E402

if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
