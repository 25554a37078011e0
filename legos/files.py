"""Writing files so that a kill, a full disk or Ctrl-C never leaves a half-written one."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import numpy as np

from legos.errors import DataError, LegosError
from legos.scratch import windows


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
    """``write_texts`` of one text."""
    write_texts(path, [text])


def write_texts(path: Path, parts: Iterable[str]) -> None:
    """Write a text that comes in parts as UTF-8, whole or not at all.

    Raises:
        DataError: it has half of a surrogate pair, which UTF-8 cannot hold.
    """
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            try:
                file.write(part.encode("utf-8"))
            except UnicodeEncodeError as error:
                around = part[max(0, error.start - 20) : error.start + 20]
                raise DataError(
                    f"{path}: cannot be written as UTF-8: character "
                    f"U+{ord(part[error.start]):04X} is half of a surrogate pair, in {around!a}"
                ) from None


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
        for part in windows(plain.reshape(-1)):
            handle.write(part.view(np.uint8).data)


def sha256_of_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def sha256_of_text(text: str) -> str:
    """Hexadecimal SHA-256 of a text's UTF-8 bytes."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


_held: set[Path] = set()  # outputs that this process has locked


@contextmanager
def output_lock(path: Path, *, wait: bool = False) -> Iterator[Path]:
    """Keep other processes from writing the folder ``path``; yield it with its links resolved.

    A command that looks at an output before it writes it holds the lock over both. The lock file
    lies beside the folder, since the folder itself is replaced: ``.<name>.lock``, removed at the
    end. ``atomic_folder`` inside the block uses the same lock. ``wait``: for a process that holds
    it, instead of raising.

    Raises:
        InUseError: another process is writing this folder; the message names it.
        DataError: ``path`` is the root folder or a file.
    """
    target = _resolve(path)
    if target in _held:
        yield target
        return

    def busy(owner: str) -> InUseError:
        return InUseError(
            f"{path}: process {owner} is writing this folder; wait for it, or choose another one"
        )

    with hold(target.with_name(f".{target.name}.lock"), busy, wait=wait, keep=False):
        _held.add(target)
        try:
            _clean(target)
            yield target
        finally:
            _held.discard(target)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that takes the place of ``path`` when the block succeeds.

    A symbolic link at ``path`` stays: the folder it points to is replaced. Every file is flushed
    to disk before the exchange, and afterwards each is there with the size it had. A folder cannot
    be renamed onto another, so the old one steps aside first; a crash between the two renames
    leaves ``path`` absent and the old one whole beside it, which ``recover_folder`` puts back. When
    the block raises, ``path`` is untouched and the new folder is removed.

    Raises:
        InUseError: another process is writing this folder.
        DataError: ``path`` is a file, or what lies there afterwards is not what was written.
    """
    with output_lock(path) as target:
        temporary = target.with_name(f".{target.name}.{unique()}.part")
        temporary.mkdir()
        try:
            yield temporary
            for written in (*temporary.rglob("*"), temporary):
                _sync(written)
            sizes = _sizes(temporary)
            _exchange(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if _sizes(target) != sizes:
            if _aside(target).exists():
                shutil.rmtree(target)
                os.rename(_aside(target), target)
            raise DataError(
                f"{path}: is not what was written; another program changed it at the same time: "
                "run the same command again"
            )
        shutil.rmtree(_aside(target), ignore_errors=True)


def recover_folder(path: Path) -> None:
    """Put back the folder that a crash inside ``atomic_folder`` left aside.

    Nothing happens while another process writes the folder.
    """
    if _aside(_resolve(path)).exists():
        with suppress(InUseError), output_lock(path):
            pass


def unique() -> str:
    """A part of a temporary name that no other process chooses."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def is_temporary_of(name: str, candidate: str) -> bool:
    """Whether ``candidate`` is how this module names a temporary of ``name``."""
    return bool(re.fullmatch(rf"\.{re.escape(name)}(\.\d+(-[0-9a-f]{{8}})?)?\.part", candidate))


def _resolve(path: Path) -> Path:
    target = Path(os.path.realpath(path))
    if not target.name:
        raise DataError(f"{path}: the root folder cannot be an output")
    if target.exists() and not target.is_dir():
        raise DataError(f"{path}: is a file, expected a folder or a new name")
    return target


def _clean(target: Path) -> None:
    """Undo what killed processes left; with the lock held, no temporary has a living owner."""
    old = _aside(target)
    if old.exists() and not target.exists():
        os.rename(old, target)
    shutil.rmtree(old, ignore_errors=True)
    for entry in os.scandir(target.parent):
        if is_temporary_of(target.name, entry.name) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)


def _exchange(temporary: Path, target: Path) -> None:
    old = _aside(target)
    if target.exists():
        os.rename(target, old)
    try:
        os.rename(temporary, target)
    except OSError:
        if old.exists():
            os.rename(old, target)
        raise
    _sync(target.parent)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _sizes(folder: Path) -> dict[Path, int]:
    """The size of every file below a folder by its relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.stat().st_size for path in files}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class InUseError(LegosError):
    """Another process works on the same output."""


@contextmanager
def hold(
    path: Path, busy: Callable[[str], LegosError], *, wait: bool = False, keep: bool = True
) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs.

    The operating system frees the lock of a killed process; its file may stay and does no harm.

    Args:
        path: the lock file; its folder is made where it is missing.
        busy: makes the error that is raised from the number of the process that holds the lock.
        wait: wait for that process instead.
        keep: leave the file in its place afterwards.
    """
    while True:
        same = False
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        with os.fdopen(descriptor, "r+", encoding="ascii", errors="replace") as file:
            owner = _claim(file, wait=wait)
            if owner is not None:
                raise busy(owner)
            with suppress(FileNotFoundError):
                same = os.path.samestat(os.fstat(descriptor), path.stat())
            if not same:
                continue  # another process removed the file between opening and locking it
            try:
                yield
                return
            finally:
                if not keep:
                    path.unlink(missing_ok=True)
                # a forked child shares the descriptor, so that closing it would not be enough
                fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_free(path: Path) -> bool:
    """Whether no process holds a lock on a file; False where there is no such file."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _claim(file: IO[str], *, wait: bool) -> str | None:
    """Lock an open file and write this process's number into it; None, or the owner's number."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        text = file.read(20).strip()
        return text if text.isdigit() else "(unknown)"
    file.seek(0)
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    return None


HARMLESS = 100 * 2**20
"""Bytes that any file may grow to."""
LARGEST_RATIO = 200
"""Bytes a compressed byte may stand for beyond that; texts reach 3 to 30."""
LONGEST_LINE = 64 * 2**20
"""Bytes of a line."""


class BoundedZlib(gzip.GzipFile):
    """A gzip file for reading; every method raises DataError once it grows as no text does."""

    _faults: tuple[type[Exception], ...] = ()
    """Further errors of damaged files, raised as BadGzipFile."""

    def __init__(self, path: Path, raw: IO[bytes]) -> None:
        super().__init__(fileobj=raw, mode="rb")
        self._path, self._raw, self._out = path, raw, 0

    def read(self, size: int | None = -1) -> bytes:
        """At most ``size`` bytes, all where it is negative."""
        if size is not None and size >= 0:
            return self._checked(super().read, size)
        parts = []
        while part := self.read(HARMLESS):
            parts.append(part)
        return b"".join(parts)

    def read1(self, size: int = -1) -> bytes:
        """At most ``size`` bytes by one read."""
        return self._checked(super().read1, size)

    def readline(self, size: int | None = -1) -> bytes:
        """The next line, at most ``size`` bytes of it."""
        most = LONGEST_LINE + 1 if size is None or size < 0 else size
        line = self._checked(super().readline, most)
        if len(line) > LONGEST_LINE:
            raise DataError(f"{self._path}: a line of more than {LONGEST_LINE:,} bytes; no text")
        return line

    def _checked(self, read: Callable[[int], bytes], size: int) -> bytes:
        try:
            data = read(size)
        except self._faults as error:
            raise gzip.BadGzipFile(str(error)) from None
        self._out += len(data)
        out = self._out
        if out > HARMLESS and out > LARGEST_RATIO * max(1, self._raw.tell()):
            raise DataError(
                f"{self._path}: {self._raw.tell():,} bytes of this gzip file stand for more than "
                f"{out:,}; no text is so, fetch it again"
            )
        return data


def _fastest() -> type[BoundedZlib]:
    """By ISA-L, three times as fast as zlib, where the package isal is installed."""
    try:
        from isal import igzip, isal_zlib
    except ImportError:
        return BoundedZlib

    class BoundedIsal(BoundedZlib, igzip.IGzipFile):
        _faults = (isal_zlib.error,)  # type: ignore[assignment]  # a class, whatever its stub says

    return BoundedIsal


BoundedGzip = _fastest()
