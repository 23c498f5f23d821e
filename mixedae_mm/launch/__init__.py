"""The train and test commands: load, apply options, check everything once, build."""
