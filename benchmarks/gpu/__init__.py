"""What only a GPU can show, in one command: see ``python -m benchmarks.gpu --help``."""
