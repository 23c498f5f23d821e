"""What people call from Python: load an encoder, features, search, export."""
