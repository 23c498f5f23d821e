"""The package's promises put to the test, as commands anyone can run."""
