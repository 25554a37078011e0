"""Writing files so that a kill, a full disk or Ctrl-C never leaves a half-written one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from legos.errors import DataError
from legos.folders import is_temporary_of, unique
from legos.locks import is_free


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    The file is flushed to disk before the rename, so ``path`` holds the old or the new content in
    full, never a part. A symbolic link at ``path`` stays: the file it points to is replaced. When
    the block raises, the temporary file is removed; that of a killed process is removed by the
    next one which writes the same file.

    Raises:
        DataError: ``path`` is there and is no regular file.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise DataError(f"{path}: is no regular file, so it is not replaced; choose another name")
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    temporary = target.with_name(f".{target.name}.{unique()}.part")
    mark = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX)  # says to other processes that the owner is alive
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if error.filename is None:  # a write that fails does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)
        os.close(mark)


def _remove_stale(path: Path) -> None:
    """Remove the temporary files of ``path`` whose processes are dead."""
    for entry in os.scandir(path.parent):
        if not is_temporary_of(path.name, entry.name) or not entry.is_file(follow_symlinks=False):
            continue
        if is_free(Path(entry.path)):
            Path(entry.path).unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all.

    Raises:
        DataError: the text has half of a surrogate pair, which UTF-8 cannot hold.
    """
    try:
        content = text.encode("utf-8")
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.start + 20]
        raise DataError(
            f"{path}: cannot be written as UTF-8: character U+{ord(text[error.start]):04X} is half "
            f"of a surrogate pair, in {around!a}"
        ) from None
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a plain ``.npy`` (no objects), whole or not at all."""
    if array.dtype.hasobject:
        raise TypeError(f"{path}: an array of Python objects")
    plain = np.ascontiguousarray(array).reshape(array.shape)
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        header = np.lib.format.header_data_from_array_1_0(plain)
        np.lib.format.write_array_header_1_0(handle, header)
        # ndarray.tofile, which np.save calls, does not say why a write fails
        handle.write(plain.reshape(-1).view(np.uint8).data)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
