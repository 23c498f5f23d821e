"""Parts of encoder and decoder: layers, positions, relative position bias."""
