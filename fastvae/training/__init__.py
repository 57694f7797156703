"""Training: data, loop, and files that are written whole."""
