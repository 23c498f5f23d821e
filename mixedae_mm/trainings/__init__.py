"""Many runs of ``tools/train.py``: stopped at any moment, continued, recognised."""
