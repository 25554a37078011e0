"""The script of the page, read as text: no browser is needed."""

from __future__ import annotations

import re
from pathlib import Path

import legos.server


def test_no_function_of_the_page_replaces_another() -> None:
    """JavaScript lets the second declaration of a name win without a word."""
    script = Path(legos.server.__file__).with_name("static") / "page.js"
    names = re.findall(r"^(?:async )?function (\w+)", script.read_text(encoding="utf-8"), re.M)
    assert len(names) > 10
    assert len(set(names)) == len(names)
