"""Helpers that several rooms share, each in one place."""
