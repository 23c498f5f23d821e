#!/usr/bin/env python
"""Export encoders and classifiers to ONNX or PyTorch programs."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # of a checkout

from mixedae_mm.apis.export import parse_arguments, run
from mixedae_mm.launch.entry import report_errors

if __name__ == '__main__':
    sys.exit(report_errors(run, parse_arguments()))
