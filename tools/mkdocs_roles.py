"""A hook of MkDocs: the roles of Sphinx in docstrings (``:class:`name```) become names."""

from __future__ import annotations

import re
from typing import Any

_ROLE = re.compile(r":(?:func|class|mod|meth|attr|data):(?=<code>)")


def on_page_content(html: str, **_: Any) -> str:
    """Drop the roles from a page of HTML."""
    return _ROLE.sub("", html)
