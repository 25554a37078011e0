"""Training step by step, the same for every system; a system's part is its recipe."""
