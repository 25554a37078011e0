"""Writing files so that a kill, a full disk or Ctrl-C never leaves a half-written one."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block succeeds.

    The file is flushed to disk before the rename, so ``path`` holds the old or the new content in
    full, never a part. When the block raises, the temporary file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if error.filename is None:  # a write that fails does not say where
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all; NaN is refused."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_array(path: Path, array: np.ndarray) -> None:
    """Write a plain ``.npy`` (no objects), whole or not at all."""
    with atomic_path(path) as temporary, temporary.open("wb") as handle:
        np.save(handle, np.ascontiguousarray(array), allow_pickle=False)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def claim(file: IO[str]) -> str | None:
    """Lock an open file for as long as it is open and write this process's number into it.

    A killed owner's lock is free at once. Open the file without truncating it: until the lock is
    ours, its text is the owner's.

    Returns:
        None, or the number of the process that has the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return file.read().strip() or "unknown"
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return None


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` when the block succeeds.

    Every file is flushed to disk before the exchange. A folder cannot be renamed onto another, so
    the old one steps aside first; a crash between the two renames leaves ``path`` absent and the
    old one whole beside it, which ``recover_folder`` puts back. When the block raises, ``path`` is
    untouched and the new folder is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(path)
    temporary, old = path.with_name(f".{path.name}.part"), _aside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            _sync(file)
        _sync(temporary)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    if path.exists():
        os.rename(path, old)
    os.rename(temporary, path)
    _sync(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Undo what a crash inside ``atomic_folder`` left: put the old folder back, or drop it."""
    old = _aside(path)
    if old.exists() and not path.exists():
        os.rename(old, path)
    shutil.rmtree(old, ignore_errors=True)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
