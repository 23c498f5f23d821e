#!/usr/bin/env python
"""k-NN and linear-probe accuracy of frozen features, on a folder of classes."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # of a checkout

from mixedae_mm.analysis.knn_and_probe import parse_arguments, run
from mixedae_mm.launch.entry import report_errors

if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
