"""``python worker.py --help``: what ``legos run`` does, from a checkout without installing it."""

from __future__ import annotations

import sys

from legos.commands.run import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
