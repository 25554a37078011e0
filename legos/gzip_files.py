"""Gzip files of others, read within bounds: a few kilobytes may stand for gigabytes of nothing."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import IO

from legos.errors import DataError

HARMLESS = 100 * 2**20
"""Bytes that any file may grow to."""
LARGEST_RATIO = 200
"""Bytes a compressed byte may stand for beyond that; texts reach 3 to 30."""
LONGEST_LINE = 64 * 2**20
"""Bytes of a line."""


class BoundedGzip(gzip.GzipFile):
    """A gzip file for reading that is refused once it grows as no text does.

    Args:
        path: of the file, for errors.
        raw: it, opened for reading.

    Raises:
        DataError: while reading, by every method.
    """

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._path, self._raw, self._out = path, raw, 0

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, all where it is negative."""
        if size is not None and size >= 0:
            return self._checked(super().read(size))
        parts = []
        while part := self.read(HARMLESS):
            parts.append(part)
        return b"".join(parts)

    def read1(self, size: int = -1) -> bytes:
        """At most ``size`` bytes by one read."""
        return self._checked(super().read1(size))

    def readline(self, size: int | None = -1) -> bytes:
        """The next line, at most ``size`` bytes of it."""
        most = LONGEST_LINE + 1 if size is None or size < 0 else size
        line = self._checked(super().readline(most))
        if len(line) > LONGEST_LINE:
            raise DataError(f"{self._path}: a line of more than {LONGEST_LINE:,} bytes; no text")
        return line

    def _checked(self, data: bytes) -> bytes:
        self._out += len(data)
        out = self._out
        if out > HARMLESS and out > LARGEST_RATIO * max(1, self._raw.tell()):
            raise DataError(
                f"{self._path}: {self._raw.tell():,} bytes of this gzip file stand for more than "
                f"{out:,}; no text is so, fetch it again"
            )
        return data
