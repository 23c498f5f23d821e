#!/usr/bin/env python
"""Evaluate a checkpoint with a config of mmpretrain, mmseg or mmdet."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # of a checkout

from mixedae_mm.launch.test import main

if __name__ == '__main__':
    sys.exit(main())
