"""Write requirements.lock: every package of the environment that the pins need, by its version.

python -m tools.lock
"""

from __future__ import annotations

import sys

from legos.files import write_text
from tools.dependencies import ALL, ROOT, closure, pins, version

FILE = ROOT / "requirements.lock"
HEAD = """\
# Every package that requirements*.txt pins and every package that those need, as installed together
# on Linux with Python {python}. `make lock` writes this file; `make setup` installs by it.
# No hashes: an installed environment does not know the archives that it came from.
# For a GPU torch also installs packages of its own (nvidia-...) and pins them itself.
"""


def lock() -> str:
    """Return the text of the lock."""
    pinned = {name for file in ALL for name in pins(file)}
    lines = [
        f"{name}=={version(name)}"
        + ("" if name in pinned else f"  # needed by {', '.join(sorted(users))}")
        for name, users in closure(ALL).items()
    ]
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    return HEAD.format(python=python) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    write_text(FILE, lock())
