"""What reaches the terminal: names and paths of others are text there, never markup or commands."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which
from typing import IO, Any

# control characters but TAB and line feed, marks that turn the direction of text, line separators,
# halves of surrogate pairs
_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: str) -> str:
    r"""Return ``text`` with ``\x1b`` and the like in place of characters that steer a terminal."""
    return _UNPRINTABLE.sub(lambda found: ascii(found[0])[1:-1], text)


IN_CHECKOUT = (Path(__file__).resolve().parents[1] / "worker.py").is_file()
"""Whether this is a checkout of the repository, not an installed package."""
_OTHER_WORDS = (
    (re.compile(r"(launch|--nproc-per-node \S+) worker\.py"), r"\1 -m legos run"),
    (re.compile(r"\b(?:python )?worker\.py"), "legos run"),
    (re.compile(r"(--(?:data|model|exp|embed) )config/\w+/(\S+)\.yaml"), r"\1\2"),
)
_LEGOS = re.compile(
    r"(?<![\w.-])(?<!-m )legos (explain|list|rate|recommend|runs?|serve|similar|table|vectors)\b"
)
_PROCESS = re.compile(r"python -m process\.(\w+)")
_as_legos = False


@contextmanager
def started_as_legos() -> Iterator[None]:
    """Within the block this process was started by the command ``legos``."""
    global _as_legos
    before, _as_legos = _as_legos, True
    try:
        yield
    finally:
        _as_legos = before


def as_started(text: str) -> str:
    """Return a text with its command lines in the words that the user has started this process by.

    ``python worker.py`` and ``python -m process.mind`` become ``legos run`` and ``legos mind`` for
    who types ``legos``; where there is no ``worker.py``, it is ``legos run`` in any case. ``legos
    serve`` becomes ``.venv/bin/python -m legos serve`` where there is no command ``legos``.
    """
    if _as_legos or not IN_CHECKOUT:
        for words, others in _OTHER_WORDS:
            text = words.sub(others, text)
    if _as_legos:
        text = _PROCESS.sub(lambda found: f"legos {found[1].replace('_', '-')}", text)
    if which("legos") is None:
        text = _LEGOS.sub(lambda found: f"{_interpreter()} -m {found[0]}", text)
    return text


def _interpreter() -> str:
    """The interpreter as it is typed in the working directory."""
    path = Path(sys.executable)
    if which("python") == sys.executable:
        return "python"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def shown_bytes(size: float) -> str:
    """``1.2 MiB``; below a KiB ``17 bytes``."""
    if size < 1024:
        return f"{size:.0f} bytes"
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.1f} {unit}"


class _PlainStream:
    """Standard output for ``print``; rich, which writes escape sequences itself, goes past it."""

    def __init__(self, stream: IO[str]) -> None:
        self.rich_proxied_file = stream  # rich's own name for the stream behind a stand-in

    def write(self, text: str) -> int:
        self.rich_proxied_file.write(printable(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.rich_proxied_file, name)


@contextmanager
def plain_output() -> Iterator[None]:
    """Within the block ``print`` shows unprintable and unencodable characters as escapes."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    sys.stdout = _PlainStream(stream)
    try:
        yield
    finally:
        sys.stdout = stream
