"""Opening of files that may be compressed: told by their first bytes, not by their names."""

from __future__ import annotations

import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from legos.errors import DataError
from legos.files import HARMLESS, LARGEST_RATIO, BoundedGzip

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
BAD_GZIP = (EOFError, zlib.error, gzip.BadGzipFile)
_BUFFER = 1 << 20


@contextmanager
def decompressed(path: Path, raw: IO[bytes]) -> Iterator[IO[bytes]]:
    """The bytes of an open file, as they are or out of gzip or Zstandard.

    Args:
        path: of the file, for errors; its name decides nothing.
        raw: the file, at its beginning.

    Raises:
        DataError: inside the block: data in Zstandard are damaged or cut short, or compressed data
            stand for more than any text does.
        EOFError, zlib.error, gzip.BadGzipFile: inside the block: data in gzip are damaged
            (``BAD_GZIP``).
    """
    magic = raw.read(4)
    raw.seek(0)
    if magic.startswith(GZIP):
        stream: Any = BoundedGzip(path, raw)
    elif magic == ZSTD:
        stream = io.BufferedReader(_BoundedZstd(path, raw), _BUFFER)
    else:
        stream = raw
    yield stream


def damaged_gzip(path: Path, line: int, error: BaseException) -> DataError:
    """What to raise where lines of a gzip file end too early.

    Args:
        path: of the file.
        line: number of the last whole line.
        error: one of ``BAD_GZIP``.
    """
    return DataError(
        f"{path}:{line + 1}: the gzip file is damaged or cut short after line {line} ({error}); "
        "fetch it again"
    )


@contextmanager
def opened(path: Path) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
    """``decompressed`` bytes of a file and the file itself, whose place says how far it is read.

    Raises:
        DataError: inside the block, too: compressed data are damaged or cut short.
    """
    with path.open("rb") as raw:
        try:
            with decompressed(path, raw) as stream:
                yield stream, raw
        except BAD_GZIP as error:
            raise DataError(
                f"{path}: the gzip file is damaged or cut short ({error}); fetch it again"
            ) from None


class _BoundedZstd(io.RawIOBase):
    """A Zstandard file for reading that raises DataError once it grows as no text does."""

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        import pyarrow as pa  # slow to import, needed here only

        self._path, self._raw, self._out = path, raw, 0
        self._stream = pa.CompressedInputStream(pa.PythonFile(raw, mode="r"), "zstd")

    def readable(self) -> bool:
        """True."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill a buffer; 0 at the end."""
        try:
            data = self._stream.read(len(buffer))
        except OSError as error:
            raise DataError(
                f"{self._path}: the Zstandard file is damaged or cut short ({error}); fetch it "
                "again"
            ) from None
        self._out += len(data)
        if self._out > HARMLESS and self._out > LARGEST_RATIO * max(1, self._raw.tell()):
            raise DataError(
                f"{self._path}: {self._raw.tell():,} bytes of this Zstandard file stand for more "
                f"than {self._out:,}; no text is so, fetch it again"
            )
        buffer[: len(data)] = data
        return len(data)
