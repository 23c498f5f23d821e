"""The paper's claims, tested in small controlled experiments."""
