"""SHA-256 of files, remembered, so that the gigabytes of a model are not read at every start.

The hash of a large file lies in ``cache/content/`` under everything the operating system says of
the file: path, device, inode, size, and the times of the last change of content and of status in
nanoseconds. Any write changes one of them; the time of the last change of status cannot be set
back. A file that changed within the last seconds is hashed every time, since a clock may be too
coarse to tell two writes apart.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from legos.files import sha256_of_file, sha256_of_text, write_text
from legos.home import home

_LARGE = 2**20  # bytes; smaller files are hashed every time
_SETTLED = 2.0  # seconds without a change
_HASH = re.compile(r"[0-9a-f]{64}")


def content_of(path: Path, *, store: Path | None = None) -> str:
    """Hexadecimal SHA-256 of a file's bytes; a ``store`` that cannot be written is done without."""
    store = home() / "cache/content" if store is None else store
    found = os.stat(path)
    if found.st_size < _LARGE:
        return sha256_of_file(path)
    facts = [path.resolve(), found.st_dev, found.st_ino, found.st_size]
    times = [found.st_mtime_ns, found.st_ctime_ns]
    known = store / sha256_of_text(" ".join(map(str, facts + times)))
    with suppress(OSError, UnicodeDecodeError):
        text = known.read_text(encoding="ascii")
        if _HASH.fullmatch(text):
            return text
    content = sha256_of_file(path)
    after = os.stat(path)
    untouched = times == [after.st_mtime_ns, after.st_ctime_ns]
    if untouched and max(times) / 1e9 < time.time() - _SETTLED:
        with suppress(OSError):
            write_text(known, content)
    return content


def content_of_all(paths: Iterable[Path], *, store: Path | None = None) -> str:
    """One hash over the names and contents of files, whatever folder they lie in."""
    named = [f"{path.name} {content_of(path, store=store)}" for path in sorted(paths)]
    return sha256_of_text("\n".join(named))
