"""Where ``data/``, ``runs/`` and ``cache/`` lie: in the working directory, or in ``LEGOS_HOME``."""

from __future__ import annotations

import os
from pathlib import Path

VARIABLE = "LEGOS_HOME"


def home() -> Path:
    """Return the folder around ``data/``, ``runs/`` and ``cache/``."""
    return Path(os.environ.get(VARIABLE, "")).expanduser()


def homes(folder: str) -> list[Path]:
    """Where a folder of that name may lie, without repetition: at home, in the working directory.

    Args:
        folder: ``runs`` or ``data``.
    """
    places = (home() / folder, Path(folder))
    return list({place.absolute(): place for place in places}.values())
