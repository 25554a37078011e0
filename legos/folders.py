"""Folders that are replaced as a whole: by one process at a time, never half-written."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from legos.errors import DataError
from legos.locks import InUseError, hold

_held: set[Path] = set()  # outputs that this process has locked


@contextmanager
def output_lock(path: Path, *, wait: bool = False) -> Iterator[Path]:
    """Keep other processes from writing the folder ``path``; yield it with its links resolved.

    A command that looks at an output before it writes it holds the lock over both. The lock file
    lies beside the folder, since the folder itself is replaced: ``.<name>.lock``, removed at the
    end. ``atomic_folder`` inside the block uses the same lock.

    Args:
        path: an output folder, which need not exist.
        wait: wait for a process that holds the lock instead of raising.

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
            sizes = _sync_all(temporary)
            _exchange(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        if _sizes(target) != sizes:
            _put_back(target)
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
    """Return a part of a temporary name that no other process chooses."""
    return f"{os.getpid()}-{secrets.token_hex(4)}"


def is_temporary_of(name: str, candidate: str) -> bool:
    """Whether ``candidate`` is how this module or ``files`` names a temporary of ``name``."""
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


def _put_back(target: Path) -> None:
    if _aside(target).exists():
        shutil.rmtree(target)
        os.rename(_aside(target), target)


def _aside(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")


def _sync_all(folder: Path) -> dict[Path, int]:
    """Flush everything below a folder to disk; the size of every file by its relative path."""
    for path in folder.rglob("*"):
        _sync(path)
    _sync(folder)
    return _sizes(folder)


def _sizes(folder: Path) -> dict[Path, int]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.stat().st_size for path in files}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
