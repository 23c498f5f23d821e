"""Fair comparisons with the peers, run by ``tools/benchmarks``."""
