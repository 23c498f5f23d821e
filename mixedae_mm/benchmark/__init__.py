"""Fair comparisons with the peers, run by ``tools/benchmark.py``."""
