"""Registered hooks: what happens around the model while it trains."""
