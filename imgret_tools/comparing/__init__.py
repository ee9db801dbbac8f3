"""A query under every way to search, side by side, judged honestly."""
