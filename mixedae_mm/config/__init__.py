"""Reading configs: names, keys that nothing reads, errors in one sentence."""
