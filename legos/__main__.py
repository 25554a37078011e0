"""``python -m legos``, which is the command ``legos``; ``accelerate launch -m legos run ...``."""

from __future__ import annotations

import sys

from legos.commands.main import main

if __name__ == "__main__":
    sys.exit(main())
