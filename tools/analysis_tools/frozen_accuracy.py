#!/usr/bin/env python
"""k-NN and linear-probe accuracy of frozen features, on a folder of classes."""

import sys
from pathlib import Path

# A checkout runs without being installed, from any directory.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from mixedae_mm.analysis.knn_and_probe import parse_arguments, run  # noqa: E402
from mixedae_mm.launch.entry import report_errors  # noqa: E402

if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
